/* The conformance rows of all ops. A new family is a file of rows and a line here. */
#include "verify/conform.h"

#include <stdlib.h>
#include <string.h>

#define FAMILIES(X) X(gemm) X(attention) X(norm) X(elementwise) X(embedding) X(loss) X(optimizer) X(bf16)

#define DECLARE(family) extern const struct conform_family ps__conform_##family;
FAMILIES(DECLARE)

#define ADDRESS(family) &ps__conform_##family,
static const struct conform_family *const families[] = {FAMILIES(ADDRESS)};

const struct conform_family *const *ps__conform_families(size_t *count)
{
	*count = sizeof families / sizeof *families;
	return families;
}

static ps_status run_all(const ps_verify_config *config, bool ask)
{
	enum { FAMILY_COUNT = sizeof families / sizeof *families };
	size_t count = 0;
	for (size_t i = 0; i < FAMILY_COUNT; i++)
		count += families[i]->count;
	struct conform_set *sets = calloc(count, sizeof *sets);
	if (!sets)
		return ps_fail(PS_ENOMEM, "no memory for %zu sets of rows", count);
	size_t used = 0;
	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		memcpy(sets + used, families[i]->sets, families[i]->count * sizeof *sets);
		used += families[i]->count;
	}
	ps_status status = ps__conform_run(config, sets, count, ask);
	free(sets);
	return status;
}

ps_status ps_verify_ops(const ps_verify_config *config)
{
	return run_all(config, false);
}

ps_status ps_verify_support(const ps_verify_config *config)
{
	return run_all(config, true);
}

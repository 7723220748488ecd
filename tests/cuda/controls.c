#include "tests/cuda/controls.h"

#include "tests/support/check.h"

#include <dlfcn.h>
#include <string.h>

const struct fake_cuda *find_controls(void)
{
	const struct fake_cuda *(*controls)(void);
	void *module = dlopen(PS_CUDA_MODULE, RTLD_NOW | RTLD_LOCAL);
	ck_assert_msg(module != NULL, "%s", dlerror());
	void *symbol = dlsym(module, "fake_cuda_controls");
	ck_assert_ptr_nonnull(symbol);
	memcpy(&controls, &symbol, sizeof controls);
	return controls();
}

void end_well(const struct fake_cuda *fake, long live)
{
	ck_assert_int_eq(fake->live(), live);
	ck_assert_str_eq(fake->misuse(), "");
}

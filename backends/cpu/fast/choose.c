/*
 * Which set of kernels to run: the best for this processor, or the one that PENSTOCK_CPU_KERNELS names (base, v3, v4),
 * which is for tests and for comparing sets. bf16 products by the processor go with the highest set. PS_X86_LEVELS is
 * set where the levels of x86-64 are compiled too.
 */
#include "backends/cpu/fast/fast.h"

#include <stdlib.h>
#include <string.h>

extern const struct fast_kernels ps__fast_kernels_base;
#if defined(PS_X86_LEVELS)
extern const struct fast_kernels ps__fast_kernels_v3, ps__fast_kernels_v4;

static bool has_v3(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static bool has_v4(void)
{
	return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl");
}
#endif

/* oneDNN multiplies bf16 numbers on any processor; this is about those that are made for it. */
static bool has_bf16(const struct fast_kernels *kernels)
{
#if defined(PS_X86_LEVELS) && defined(PS_ONEDNN)
	/* Processors with AMX have it too. */
	return kernels == &ps__fast_kernels_v4 && __builtin_cpu_supports("avx512bf16");
#else
	(void)kernels;
	return false;
#endif
}

ps_status ps__fast_kernels_choose(const struct fast_kernels **out, bool *bf16)
{
	const struct fast_kernels *sets[3];
	int count = 0;
#if defined(PS_X86_LEVELS)
	if (has_v4())
		sets[count++] = &ps__fast_kernels_v4;
	if (has_v3())
		sets[count++] = &ps__fast_kernels_v3;
#endif
	sets[count++] = &ps__fast_kernels_base;
	const char *wanted = getenv("PENSTOCK_CPU_KERNELS");
	for (int i = 0; i < count; i++)
		if (!wanted || !*wanted || !strcmp(sets[i]->name, wanted)) {
			*out = sets[i];
			*bf16 = has_bf16(sets[i]);
			return PS_OK;
		}
	return ps_fail(
	        PS_ENODEV,
	        "PENSTOCK_CPU_KERNELS is \"%.32s\", which this processor or build does not have; the best here is %s",
	        wanted, sets[0]->name);
}

/* Which set of kernels this processor can run. PS_X86_LEVELS is set where the levels of x86-64 are compiled too. */
#include "backends/cpu/fast/fast.h"

extern const struct fast_kernels ps__fast_kernels_base;
#if defined(PS_X86_LEVELS)
extern const struct fast_kernels ps__fast_kernels_v3, ps__fast_kernels_v4;
#endif

const struct fast_kernels *ps__fast_kernels_choose(void)
{
#if defined(PS_X86_LEVELS)
	bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
	bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
	          __builtin_cpu_supports("avx512vl");
	if (v4)
		return &ps__fast_kernels_v4;
	if (v3)
		return &ps__fast_kernels_v3;
#endif
	return &ps__fast_kernels_base;
}

/* The controls of the stand-in for CUDA's runtime, in the module that the device cuda-emulated is loaded from. */
#ifndef PS_TESTS_CUDA_CONTROLS_H
#define PS_TESTS_CUDA_CONTROLS_H

#include "tests/cuda/emulated/fake.h"

const struct fake_cuda *find_controls(void);
/* All that was made is gone but for `live` things, and nothing was misused. */
void end_well(const struct fake_cuda *fake, long live);

#endif

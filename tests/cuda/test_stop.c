/*
 * Kernels of the cuda backend behind a range check that fails, against a stand-in for CUDA's runtime (not a GPU): none
 * of them writes anything.
 */
#include "tests/cuda/controls.h"
#include "tests/support/check.h"

#include <penstock/ops.h>

#include <string.h>

/* Rows are longer than what LayerNorm keeps of them, for which it has loops of their own. */
enum { ROWS = 3, TIME = 2, WIDTH = 4100, WORDS = 5, HEADS = 2, REGIONS = 24, REGION = 3 * ROWS * TIME * WIDTH };

static ps_device *device;
static ps_queue *queue;
static ps_buffer *inputs, *outputs;
static uint64_t used;

static ps_tensor of(ps_buffer *buffer, int rank, const int64_t *dims)
{
	return ps_tensor_make(buffer, buffer == outputs ? used++ * REGION * 4 : 0, PS_F32, rank, dims);
}

#define DIMS(...)                                                            \
	(int)(sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t)), (int64_t[]) \
	{                                                                    \
		__VA_ARGS__                                                  \
	}
#define IN(...) of(inputs, DIMS(__VA_ARGS__))
#define OUT(...) of(outputs, DIMS(__VA_ARGS__))
#define MATRIX ROWS, TIME, WIDTH

static void enqueue_all(ps_tensor tokens)
{
	const ps_dropout drop = {.p = 0.5F, .place = {.seed = 3}};
	ps_tensor sums = ps_tensor_make(outputs, used++ * REGION * 4, PS_F64, 1, (int64_t[]){3});
	ps_tensor sum = ps_tensor_slice(sums, 0, 0, 1), scale = ps_tensor_slice(sums, 0, 1, 1);
	ps_tensor norm = ps_tensor_slice(sums, 0, 2, 1);
	check_ok(ps_run(queue, embedding_fwd, .tokens = tokens, .weight = IN(WORDS, WIDTH),
	                .positions = IN(TIME, WIDTH), .y = OUT(MATRIX), .scale = 1, .drop = drop));
	check_ok(ps_run(queue, add, .a = IN(MATRIX), .b = IN(MATRIX), .y = OUT(MATRIX)));
	check_ok(ps_run(queue, relu_dropout_fwd, .x = IN(MATRIX), .y = OUT(MATRIX), .drop = drop));
	check_ok(ps_run(queue, layernorm_fwd, .x = IN(MATRIX), .gamma = IN(WIDTH), .beta = IN(WIDTH), .y = OUT(MATRIX),
	                .mean = OUT(ROWS * TIME), .rstd = OUT(ROWS * TIME), .eps = 1));
	check_ok(ps_run(queue, dropout_add_layernorm_fwd, .z = IN(MATRIX), .residual = IN(MATRIX), .gamma = IN(WIDTH),
	                .beta = IN(WIDTH), .sum = OUT(MATRIX), .y = OUT(MATRIX), .mean = OUT(ROWS * TIME),
	                .rstd = OUT(ROWS * TIME), .eps = 1, .drop = drop));
	check_ok(ps_run(queue, dropout_add_layernorm_bwd_input, .dy = IN(MATRIX), .sum = IN(MATRIX),
	                .mean = IN(ROWS * TIME), .rstd = IN(ROWS * TIME), .gamma = IN(WIDTH), .dresidual = OUT(MATRIX),
	                .dz = OUT(MATRIX), .drop = drop));
	check_ok(ps_run(queue, layernorm_bwd_weight, .dy = IN(MATRIX), .x = IN(MATRIX), .mean = IN(ROWS * TIME),
	                .rstd = IN(ROWS * TIME), .dgamma = OUT(WIDTH), .dbeta = OUT(WIDTH)));
	check_ok(ps_run(queue, column_sum, .x = IN(MATRIX), .y = OUT(WIDTH)));
	check_ok(ps_run(queue, cross_entropy, .logits = IN(ROWS, TIME, WORDS), .targets = tokens,
	                .losses = OUT(ROWS, TIME), .dlogits = OUT(ROWS, TIME, WORDS), .scale = 1));
	check_ok(ps_run(queue, embedding_bwd_weight, .tokens = tokens, .dy = IN(MATRIX), .dweight = OUT(WORDS, WIDTH),
	                .scale = 1, .drop = drop));
	check_ok(ps_run(queue, sum_squares, .x = IN(MATRIX), .out = sum));
	check_ok(ps_run(queue, clip_scale, .sums = sum, .norm = norm, .scale = scale, .max_norm = 1));
	check_ok(ps_run(queue, sgd, .w = OUT(MATRIX), .g = IN(MATRIX), .scale = scale, .lr = 1));
	ck_assert_uint_le(used, REGIONS);
}

START_TEST(test_nothing_is_written)
{
	static float before[REGIONS * REGION], after[REGIONS * REGION];
	const struct fake_cuda *fake = find_controls();
	const int32_t numbers[ROWS * TIME] = {0, 1, 2, 3, WORDS, 4};
	ps_buffer *words;
	for (int i = 0; i < REGIONS * REGION; i++)
		before[i] = (float)(i % 113) / 8 - 3;
	check_ok(ps_device_open(&device, "cuda-emulated:0"));
	check_ok(ps_queue_create(&queue, device, "q"));
	check_ok(ps_buffer_create(&inputs, device, REGION * 4));
	check_ok(ps_buffer_create(&outputs, device, sizeof before));
	check_ok(ps_buffer_create(&words, device, ROWS * TIME * 4));
	ps_tensor whole = ps_tensor_make(outputs, 0, PS_F32, 1, (int64_t[]){REGIONS * REGION});
	ps_tensor tokens = ps_tensor_make(words, 0, PS_I32, 2, (int64_t[]){ROWS, TIME});
	check_ok(ps_queue_write(queue, ps_tensor_make(inputs, 0, PS_F32, 1, (int64_t[]){REGION}), before));
	check_ok(ps_queue_write(queue, whole, before));
	check_ok(ps_queue_write(queue, tokens, numbers));
	check_ok(ps_queue_finish(queue));
	enqueue_all(tokens);
	ck_assert_int_eq(ps_queue_finish(queue), PS_EINVAL);
	check_message("embedding_fwd: row 2, position 0 has token 5");
	ps_queue_reset(queue);
	check_ok(ps_queue_read(queue, after, whole));
	check_ok(ps_queue_finish(queue));
	for (int i = 0; i < REGIONS; i++)
		ck_assert_msg(!memcmp(before + i * REGION, after + i * REGION, REGION * 4), "output %d was written", i);
	ps_buffer_destroy(words);
	ps_buffer_destroy(outputs);
	ps_buffer_destroy(inputs);
	ps_queue_destroy(queue);
	ps_device_close(device);
	end_well(fake, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("what is behind a failed range check on cuda, against a stand-in for its runtime");
	TCase *tests = tcase_create("stop");
	tcase_set_timeout(tests, 600);
	tcase_add_test(tests, test_nothing_is_written);
	suite_add_tcase(suite, tests);
	return check_run(suite);
}

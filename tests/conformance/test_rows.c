/*
 * A row's result does not depend on how rows were split, bit for bit, on any device: this is what makes losses and
 * weights the same for every cut into micro-batches. Sums over rows go on from the old value, so that in double (and in
 * any dtype where the sums are exact) they do not depend on it either.
 */
#include "conformance/rows.h"
#include "support/conform.h"
#include "support/rig.h"

#include <stdlib.h>

/* Runs an op; false when the device does not take the dtype. */
static bool taken(struct rig *rig, ps_op op, ps_dtype dtype, const void *arguments, size_t bytes)
{
	ps_status status = ps_op_run(rig->queue, op, arguments, bytes);
	if (status == PS_ENOTSUP && dtype == PS_F64)
		return false;
	ck_assert_msg(status == PS_OK, "%s", ps_error_message());
	check_ok(ps_queue_finish(rig->queue));
	return true;
}

#define TAKEN(rig, dtype, op, ...) \
	taken((rig), PS_OP_##op, (dtype), &(const ps_args_##op){__VA_ARGS__}, sizeof(ps_args_##op))

enum { ROWS = 7, TIME = 5, HEADS = 3, PIECES = 3, SIZES = 3 };
static const int64_t starts[PIECES + 1] = {0, 1, 5, ROWS};

/* Rows that nothing aligns, rows aligned to two elements, and to four: backends have other accesses for each. */
static const struct {
	int64_t width, vocabulary;
} sizes[SIZES] = {{33, 129}, {42, 130}, {36, 132}};

/* Rows [starts[i], starts[i + 1]) of a tensor whose first dimension is rows, or rows * TIME. */
static ps_tensor piece(ps_tensor tensor, int i)
{
	int64_t each = tensor.dims[0] / ROWS;
	return ps_tensor_slice(tensor, 0, starts[i] * each, (starts[i + 1] - starts[i]) * each);
}

static ps_dropout piece_drop(ps_dropout drop, int i)
{
	drop.first_row += (uint32_t)starts[i];
	return drop;
}

/* Two tensors for one output: all at once, and in pieces. */
struct pair {
	ps_tensor whole, parts;
};

static struct pair pair(struct rig *rig, ps_dtype dtype, int rank, const int64_t *dims)
{
	ps_tensor whole = rig_tensor(rig, dtype, rank, dims, NULL);
	return (struct pair){whole, rig_tensor(rig, dtype, rank, dims, NULL)};
}

static void same(struct rig *rig, ps_op op, const char *name, struct pair out)
{
	ck_assert_msg(rig_same_bits(rig, out.whole, out.parts), "%s: %s in %s: %s depends on how the rows were split",
	              ps_queue_label(rig->queue), ps_op_name(op), ps_dtype_name(out.whole.dtype), name);
}

#define MAKE(...) rig_tensor(&rig, dtype, RIG_DIMS(__VA_ARGS__), NULL)
#define PAIR(...) pair(&rig, dtype, RIG_DIMS(__VA_ARGS__))

static int64_t width, vocabulary;

/* Opens the rig for a loop index that counts devices, dtypes and sizes, and sets those. */
static ps_dtype open_for(struct rig *rig, int index)
{
	width = sizes[index % SIZES].width;
	vocabulary = sizes[index % SIZES].vocabulary;
	index /= SIZES;
	rig_open(rig, conform_device(index / 2));
	return index % 2 ? PS_F64 : PS_F32;
}

static ps_dropout usual_drop(void)
{
	return conform_dropout(&(struct conform_drop){0.2F, 4, 149, 11});
}

START_TEST(elementwise_rows)
{
	struct rig rig;
	ps_dtype dtype = open_for(&rig, _i);
	ps_dropout drop = usual_drop();
	ps_tensor x = MAKE(ROWS, TIME, width);
	struct pair y = PAIR(ROWS, TIME, width);
	if (rig_has(&rig, PS_OP_dropout) && TAKEN(&rig, dtype, dropout, .x = x, .y = y.whole, .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, dropout, .x = piece(x, i), .y = piece(y.parts, i), .drop = piece_drop(drop, i));
		same(&rig, PS_OP_dropout, "y", y);
	}
	if (rig_has(&rig, PS_OP_relu_dropout_fwd) &&
	    TAKEN(&rig, dtype, relu_dropout_fwd, .x = x, .y = y.whole, .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, relu_dropout_fwd, .x = piece(x, i), .y = piece(y.parts, i),
			        .drop = piece_drop(drop, i));
		same(&rig, PS_OP_relu_dropout_fwd, "y", y);
	}
	rig_close(&rig);
}
END_TEST

START_TEST(norm_rows)
{
	struct rig rig;
	ps_dtype dtype = open_for(&rig, _i);
	ps_dropout drop = usual_drop();
	ps_tensor z = MAKE(ROWS, TIME, width), residual = MAKE(ROWS, TIME, width), dy = MAKE(ROWS, TIME, width);
	ps_tensor gamma = MAKE(width), beta = MAKE(width);
	struct pair sum = PAIR(ROWS, TIME, width), y = PAIR(ROWS, TIME, width), mean = PAIR(ROWS * TIME),
	            rstd = PAIR(ROWS * TIME), dz = PAIR(ROWS, TIME, width);
	if (rig_has(&rig, PS_OP_dropout_add_layernorm_fwd) &&
	    TAKEN(&rig, dtype, dropout_add_layernorm_fwd, .z = z, .residual = residual, .gamma = gamma, .beta = beta,
	          .sum = sum.whole, .y = y.whole, .mean = mean.whole, .rstd = rstd.whole, .eps = 1e-5F, .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, dropout_add_layernorm_fwd, .z = piece(z, i), .residual = piece(residual, i),
			        .gamma = gamma, .beta = beta, .sum = piece(sum.parts, i), .y = piece(y.parts, i),
			        .mean = piece(mean.parts, i), .rstd = piece(rstd.parts, i), .eps = 1e-5F,
			        .drop = piece_drop(drop, i));
		same(&rig, PS_OP_dropout_add_layernorm_fwd, "sum", sum);
		same(&rig, PS_OP_dropout_add_layernorm_fwd, "y", y);
		same(&rig, PS_OP_dropout_add_layernorm_fwd, "mean", mean);
		same(&rig, PS_OP_dropout_add_layernorm_fwd, "rstd", rstd);
	}
	if (rig_has(&rig, PS_OP_dropout_add_layernorm_bwd_input) &&
	    TAKEN(&rig, dtype, dropout_add_layernorm_bwd_input, .dy = dy, .sum = z, .mean = mean.whole,
	          .rstd = rstd.whole, .gamma = gamma, .dresidual = y.whole, .dz = dz.whole, .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, dropout_add_layernorm_bwd_input, .dy = piece(dy, i), .sum = piece(z, i),
			        .mean = piece(mean.whole, i), .rstd = piece(rstd.whole, i), .gamma = gamma,
			        .dresidual = piece(y.parts, i), .dz = piece(dz.parts, i), .drop = piece_drop(drop, i));
		same(&rig, PS_OP_dropout_add_layernorm_bwd_input, "dresidual", y);
		same(&rig, PS_OP_dropout_add_layernorm_bwd_input, "dz", dz);
	}
	rig_close(&rig);
}
END_TEST

struct heads {
	int64_t time, count, features;
};

static void check_attention(struct rig *rig, ps_dtype dtype, struct heads h)
{
	ps_dropout drop = usual_drop();
	int heads = (int)h.count;
	int64_t columns = h.count * h.features;
	ps_tensor qkv = rig_tensor(rig, dtype, RIG_DIMS(ROWS, h.time, 3 * columns), NULL);
	ps_tensor dout = rig_tensor(rig, dtype, RIG_DIMS(ROWS, h.time, columns), NULL);
	struct pair probs = pair(rig, dtype, RIG_DIMS(ROWS, h.count, h.time, h.time)),
	            out = pair(rig, dtype, RIG_DIMS(ROWS, h.time, columns)),
	            dqkv = pair(rig, dtype, RIG_DIMS(ROWS, h.time, 3 * columns));
	if (rig_has(rig, PS_OP_attention_fwd) &&
	    TAKEN(rig, dtype, attention_fwd, .qkv = qkv, .probs = probs.whole, .out = out.whole, .heads = heads,
	          .causal = true, .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(rig, attention_fwd, .qkv = piece(qkv, i), .probs = piece(probs.parts, i),
			        .out = piece(out.parts, i), .heads = heads, .causal = true,
			        .drop = piece_drop(drop, i));
		same(rig, PS_OP_attention_fwd, "probs", probs);
		same(rig, PS_OP_attention_fwd, "out", out);
	}
	if (rig_has(rig, PS_OP_attention_bwd) &&
	    TAKEN(rig, dtype, attention_bwd, .qkv = qkv, .probs = probs.whole, .dout = dout, .dqkv = dqkv.whole,
	          .heads = heads, .causal = true, .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(rig, attention_bwd, .qkv = piece(qkv, i), .probs = piece(probs.whole, i),
			        .dout = piece(dout, i), .dqkv = piece(dqkv.parts, i), .heads = heads, .causal = true,
			        .drop = piece_drop(drop, i));
		same(rig, PS_OP_attention_bwd, "dqkv", dqkv);
	}
}

START_TEST(attention_rows)
{
	struct rig rig;
	ps_dtype dtype = open_for(&rig, _i);
	check_attention(&rig, dtype, (struct heads){TIME, HEADS, width / HEADS});
	rig_close(&rig);
}
END_TEST

/* Sequences long enough for tensor cores. */
START_TEST(attention_rows_by_math)
{
	for (int math = PS_MATH_BF16; math < PS_MATH_COUNT; math++) {
		struct rig rig;
		rig_open(&rig, conform_device(_i));
		if (ps_queue_set_math(rig.queue, (ps_math)math) == PS_OK)
			check_attention(&rig, PS_F32, (struct heads){70, 1, 36});
		rig_close(&rig);
	}
}
END_TEST

/* A copy of the tensor that is aligned to its elements and to nothing else. */
static ps_tensor misaligned(struct rig *rig, ps_tensor tensor)
{
	int64_t count = ps_tensor_count(tensor);
	double *values = calloc((size_t)count, sizeof *values);
	ck_assert_ptr_nonnull(values);
	rig_get(rig, tensor, values);
	ps_tensor copy = tensor;
	copy.buffer = rig_tensor(rig, tensor.dtype, RIG_DIMS(count + 1), NULL).buffer;
	copy.offset = ps_dtype_bytes(tensor.dtype);
	rig_set(rig, copy, values);
	free(values);
	return copy;
}

/* Nor do the bits depend on what a tensor is aligned to, however it is read. */
START_TEST(attention_alignment)
{
	for (int math = 0; math < PS_MATH_COUNT; math++) {
		struct rig rig;
		rig_open(&rig, conform_device(_i));
		bool able = rig_has(&rig, PS_OP_attention_bwd) && ps_queue_set_math(rig.queue, (ps_math)math) == PS_OK;
		for (int64_t time = 8; able && time <= 72; time += 64) {
			const ps_dtype dtype = PS_F32;
			ps_dropout drop = usual_drop();
			ps_tensor qkv = MAKE(1, time, 3 * 64), dout = MAKE(1, time, 64);
			struct pair probs = PAIR(1, 1, time, time), out = PAIR(1, time, 64),
			            dqkv = PAIR(1, time, 3 * 64);
			probs.parts = misaligned(&rig, probs.parts);
			out.parts = misaligned(&rig, out.parts);
			dqkv.parts = misaligned(&rig, dqkv.parts);
			ps_tensor odd = misaligned(&rig, qkv);
			rig_run(&rig, attention_fwd, .qkv = qkv, .probs = probs.whole, .out = out.whole, .heads = 1,
			        .drop = drop);
			rig_run(&rig, attention_fwd, .qkv = odd, .probs = probs.parts, .out = out.parts, .heads = 1,
			        .drop = drop);
			rig_run(&rig, attention_bwd, .qkv = qkv, .probs = probs.whole, .dout = dout, .dqkv = dqkv.whole,
			        .heads = 1, .drop = drop);
			rig_run(&rig, attention_bwd, .qkv = odd, .probs = probs.parts, .dout = misaligned(&rig, dout),
			        .dqkv = dqkv.parts, .heads = 1, .drop = drop);
			ck_assert_msg(rig_same_bits(&rig, out.whole, out.parts) &&
			                      rig_same_bits(&rig, probs.whole, probs.parts) &&
			                      rig_same_bits(&rig, dqkv.whole, dqkv.parts),
			              "%s: attention of %d positions in math %d depends on alignment",
			              ps_queue_label(rig.queue), (int)time, math);
		}
		rig_close(&rig);
	}
}
END_TEST

START_TEST(embedding_and_loss_rows)
{
	struct rig rig;
	ps_dtype dtype = open_for(&rig, _i);
	ps_dropout drop = usual_drop();
	double words[ROWS * TIME];
	for (int i = 0; i < ROWS * TIME; i++)
		words[i] = (double)(ps__conform_mix(conform_seed() + (uint64_t)i) % (uint64_t)vocabulary);
	ps_tensor tokens = rig_tensor(&rig, PS_I32, RIG_DIMS(ROWS, TIME), words);
	ps_tensor weight = MAKE(vocabulary, width), positions = MAKE(TIME, width);
	struct pair y = PAIR(ROWS, TIME, width), losses = PAIR(ROWS, TIME), dlogits = PAIR(ROWS, TIME, vocabulary);
	ps_tensor logits = MAKE(ROWS, TIME, vocabulary);
	if (rig_has(&rig, PS_OP_embedding_fwd) &&
	    TAKEN(&rig, dtype, embedding_fwd, .tokens = tokens, .weight = weight, .positions = positions, .y = y.whole,
	          .scale = 3, .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, embedding_fwd, .tokens = piece(tokens, i), .weight = weight,
			        .positions = positions, .y = piece(y.parts, i), .scale = 3,
			        .drop = piece_drop(drop, i));
		same(&rig, PS_OP_embedding_fwd, "y", y);
	}
	if (rig_has(&rig, PS_OP_cross_entropy) &&
	    TAKEN(&rig, dtype, cross_entropy, .logits = logits, .targets = tokens, .losses = losses.whole,
	          .dlogits = dlogits.whole, .scale = 1.0F / 35)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, cross_entropy, .logits = piece(logits, i), .targets = piece(tokens, i),
			        .losses = piece(losses.parts, i), .dlogits = piece(dlogits.parts, i),
			        .scale = 1.0F / 35);
		same(&rig, PS_OP_cross_entropy, "losses", losses);
		same(&rig, PS_OP_cross_entropy, "dlogits", dlogits);
	}
	rig_close(&rig);
}
END_TEST

/* --- sums over rows -------------------------------------------------------------------------------------------- */

/* Random in double; in float whole numbers, whose sums are exact, so that a row left out or counted twice shows. */
static ps_tensor addends(struct rig *rig, ps_dtype dtype, int rank, const int64_t *dims)
{
	ps_tensor tensor = rig_tensor(rig, dtype, rank, dims, NULL);
	if (dtype == PS_F64)
		return tensor;
	size_t count = (size_t)ps_tensor_count(tensor);
	double *values = malloc(count * sizeof *values);
	ck_assert_ptr_nonnull(values);
	for (size_t i = 0; i < count; i++)
		values[i] = (double)(ps__conform_mix(i + 77) % 17) - 8;
	rig_set(rig, tensor, values);
	free(values);
	return tensor;
}

#define ADDENDS(...) addends(&rig, dtype, RIG_DIMS(__VA_ARGS__))

START_TEST(sums_over_rows)
{
	struct rig rig;
	ps_dtype dtype = open_for(&rig, _i);
	double words[ROWS * TIME], zeros[ROWS * TIME] = {0}, ones[ROWS * TIME];
	for (int i = 0; i < ROWS * TIME; i++) {
		words[i] = i % 4;
		ones[i] = 1;
	}
	ps_tensor tokens = rig_tensor(&rig, PS_I32, RIG_DIMS(ROWS, TIME), words);
	ps_tensor mean = rig_tensor(&rig, dtype, RIG_DIMS(ROWS * TIME), zeros);
	ps_tensor rstd = rig_tensor(&rig, dtype, RIG_DIMS(ROWS * TIME), ones);
	ps_tensor dy = ADDENDS(ROWS, TIME, width), x = ADDENDS(ROWS, TIME, width);
	struct pair y = PAIR(width), dbeta = PAIR(width), dweight = PAIR(vocabulary, width);
	if (rig_has(&rig, PS_OP_column_sum) && TAKEN(&rig, dtype, column_sum, .x = dy, .y = y.whole)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, column_sum, .x = piece(dy, i), .y = y.parts, .accumulate = i > 0);
		same(&rig, PS_OP_column_sum, "y", y);
	}
	if (rig_has(&rig, PS_OP_layernorm_bwd_weight) &&
	    TAKEN(&rig, dtype, layernorm_bwd_weight, .dy = dy, .x = x, .mean = mean, .rstd = rstd, .dgamma = y.whole,
	          .dbeta = dbeta.whole)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, layernorm_bwd_weight, .dy = piece(dy, i), .x = piece(x, i),
			        .mean = piece(mean, i), .rstd = piece(rstd, i), .dgamma = y.parts, .dbeta = dbeta.parts,
			        .accumulate = i > 0);
		same(&rig, PS_OP_layernorm_bwd_weight, "dgamma", y);
		same(&rig, PS_OP_layernorm_bwd_weight, "dbeta", dbeta);
	}
	ps_dropout drop = conform_dropout(&(struct conform_drop){0.5F, 4, 149, 11});
	if (rig_has(&rig, PS_OP_embedding_bwd_weight) &&
	    TAKEN(&rig, dtype, embedding_bwd_weight, .tokens = tokens, .dy = dy, .dweight = dweight.whole, .scale = 3,
	          .drop = drop)) {
		for (int i = 0; i < PIECES; i++)
			rig_run(&rig, embedding_bwd_weight, .tokens = piece(tokens, i), .dy = piece(dy, i),
			        .dweight = dweight.parts, .scale = 3, .accumulate = i > 0, .drop = piece_drop(drop, i));
		same(&rig, PS_OP_embedding_bwd_weight, "dweight", dweight);
	}
	rig_close(&rig);
}
END_TEST

int main(void)
{
	int count = conform_device_count();
	Suite *suite = suite_create("rows");
	TCase *tests = tcase_create("rows");
	add_product_rows(tests);
	tcase_add_loop_test(tests, elementwise_rows, 0, 2 * SIZES * count);
	tcase_add_loop_test(tests, norm_rows, 0, 2 * SIZES * count);
	tcase_add_loop_test(tests, attention_rows, 0, 2 * SIZES * count);
	tcase_add_loop_test(tests, attention_rows_by_math, 0, count);
	tcase_add_loop_test(tests, attention_alignment, 0, count);
	tcase_add_loop_test(tests, embedding_and_loss_rows, 0, 2 * SIZES * count);
	tcase_add_loop_test(tests, sums_over_rows, 0, 2 * SIZES * count);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}

/* Calling ops: the shared check of every argument, and what a backend gets to see. */
#include "tests/core/probe.h"

#include <stddef.h>

enum { ROWS = 2, TIME = 3, WIDTH = 4, HEADS = 2, VOCABULARY = 5, N = ROWS * TIME };

#define TOKENS() probe_tensor(PS_I32, 2, (int64_t[]){ROWS, TIME})

static const ps_dropout drop = {.p = 0.25f};

/* Fills in good arguments of one op. */
static void make_good(ps_op op, void *arguments)
{
#define GOOD(name, ...)                                                       \
	case PS_OP_##name:                                                    \
		*(ps_args_##name *)arguments = (ps_args_##name){__VA_ARGS__}; \
		break
	switch (op) {
		GOOD(gemm, .a = MATRIX(3, 4), .b = MATRIX(4, 5), .c = MATRIX(3, 5), .bias = VECTOR(5));
		GOOD(column_sum, .x = MATRIX(3, 4), .y = VECTOR(4));
		GOOD(add, .a = MATRIX(3, 4), .b = MATRIX(3, 4), .y = MATRIX(3, 4));
		GOOD(relu_fwd, .x = MATRIX(3, 4), .y = MATRIX(3, 4));
		GOOD(relu_bwd, .dy = MATRIX(3, 4), .y = MATRIX(3, 4), .dx = MATRIX(3, 4));
		GOOD(dropout, .x = MATRIX(3, 4), .y = MATRIX(3, 4), .drop = drop);
		GOOD(relu_dropout_fwd, .x = MATRIX(3, 4), .y = MATRIX(3, 4), .drop = drop);
		GOOD(relu_dropout_bwd, .dy = MATRIX(3, 4), .y = MATRIX(3, 4), .dx = MATRIX(3, 4), .p = 0.25f);
		GOOD(embedding_fwd, .tokens = TOKENS(), .weight = MATRIX(VOCABULARY, WIDTH),
		     .positions = MATRIX(TIME + 1, WIDTH), .y = CUBE(ROWS, TIME, WIDTH), .drop = drop);
		GOOD(embedding_bwd_weight, .tokens = TOKENS(), .dy = CUBE(ROWS, TIME, WIDTH),
		     .dweight = MATRIX(VOCABULARY, WIDTH), .drop = drop);
		GOOD(layernorm_fwd, .x = CUBE(ROWS, TIME, WIDTH), .gamma = VECTOR(WIDTH), .beta = VECTOR(WIDTH),
		     .y = CUBE(ROWS, TIME, WIDTH), .mean = VECTOR(N), .rstd = VECTOR(N));
		GOOD(layernorm_bwd_input, .dy = CUBE(ROWS, TIME, WIDTH), .x = CUBE(ROWS, TIME, WIDTH),
		     .mean = VECTOR(N), .rstd = VECTOR(N), .gamma = VECTOR(WIDTH), .dx = CUBE(ROWS, TIME, WIDTH));
		GOOD(layernorm_bwd_weight, .dy = CUBE(ROWS, TIME, WIDTH), .x = CUBE(ROWS, TIME, WIDTH),
		     .mean = VECTOR(N), .rstd = VECTOR(N), .dgamma = VECTOR(WIDTH), .dbeta = VECTOR(WIDTH));
		GOOD(dropout_add_layernorm_fwd, .z = CUBE(ROWS, TIME, WIDTH), .residual = CUBE(ROWS, TIME, WIDTH),
		     .gamma = VECTOR(WIDTH), .beta = VECTOR(WIDTH), .sum = CUBE(ROWS, TIME, WIDTH),
		     .y = CUBE(ROWS, TIME, WIDTH), .mean = VECTOR(N), .rstd = VECTOR(N), .drop = drop);
		GOOD(dropout_add_layernorm_bwd_input, .dy = CUBE(ROWS, TIME, WIDTH), .sum = CUBE(ROWS, TIME, WIDTH),
		     .mean = VECTOR(N), .rstd = VECTOR(N), .gamma = VECTOR(WIDTH), .dresidual = CUBE(ROWS, TIME, WIDTH),
		     .dz = CUBE(ROWS, TIME, WIDTH), .drop = drop);
		GOOD(attention_fwd, .qkv = CUBE(ROWS, TIME, 3 * WIDTH),
		     .probs = probe_tensor(PS_F32, 4, (int64_t[]){ROWS, HEADS, TIME, TIME}),
		     .out = CUBE(ROWS, TIME, WIDTH), .heads = HEADS, .drop = drop);
		GOOD(attention_bwd, .qkv = CUBE(ROWS, TIME, 3 * WIDTH),
		     .probs = probe_tensor(PS_F32, 4, (int64_t[]){ROWS, HEADS, TIME, TIME}),
		     .dout = CUBE(ROWS, TIME, WIDTH), .dqkv = CUBE(ROWS, TIME, 3 * WIDTH), .heads = HEADS,
		     .drop = drop);
		GOOD(cross_entropy, .logits = MATRIX(N, VOCABULARY), .targets = probe_tensor(PS_I32, 1, (int64_t[]){N}),
		     .losses = VECTOR(N), .dlogits = MATRIX(N, VOCABULARY));
		GOOD(sum_squares, .x = MATRIX(3, 4), .out = DOUBLE(1));
		GOOD(clip_scale, .sums = DOUBLE(4), .norm = DOUBLE(1), .scale = DOUBLE(1));
		GOOD(sgd, .w = MATRIX(3, 4), .g = MATRIX(3, 4), .scale = DOUBLE(1));
	case PS_OP_COUNT:
		break;
	}
#undef GOOD
}

enum { OPTIONAL = 1, ANY_SHAPE = 2, OUTPUT = 4 };

/* Every tensor argument of every op. */
static const struct field {
	const char *name;
	size_t offset;
	ps_op op;
	int flags;
} fields[] = {
#define FIELD(id, arg, how)                                                                           \
	{                                                                                             \
		.name = #arg, .offset = offsetof(ps_args_##id, arg), .op = PS_OP_##id, .flags = (how) \
	}
        FIELD(gemm, a, 0),
        FIELD(gemm, b, 0),
        FIELD(gemm, c, OUTPUT),
        FIELD(gemm, bias, OPTIONAL),
        FIELD(column_sum, x, 0),
        FIELD(column_sum, y, OUTPUT),
        FIELD(add, a, 0),
        FIELD(add, b, 0),
        FIELD(add, y, OUTPUT),
        FIELD(relu_fwd, x, 0),
        FIELD(relu_fwd, y, OUTPUT),
        FIELD(relu_bwd, dy, 0),
        FIELD(relu_bwd, y, 0),
        FIELD(relu_bwd, dx, OUTPUT),
        FIELD(dropout, x, 0),
        FIELD(dropout, y, OUTPUT),
        FIELD(relu_dropout_fwd, x, 0),
        FIELD(relu_dropout_fwd, y, OUTPUT),
        FIELD(relu_dropout_bwd, dy, 0),
        FIELD(relu_dropout_bwd, y, 0),
        FIELD(relu_dropout_bwd, dx, OUTPUT),
        FIELD(embedding_fwd, tokens, 0),
        FIELD(embedding_fwd, weight, 0),
        FIELD(embedding_fwd, positions, 0),
        FIELD(embedding_fwd, y, OUTPUT),
        FIELD(embedding_bwd_weight, tokens, 0),
        FIELD(embedding_bwd_weight, dy, 0),
        FIELD(embedding_bwd_weight, dweight, OUTPUT),
        FIELD(layernorm_fwd, x, 0),
        FIELD(layernorm_fwd, gamma, 0),
        FIELD(layernorm_fwd, beta, 0),
        FIELD(layernorm_fwd, y, OUTPUT),
        FIELD(layernorm_fwd, mean, OUTPUT),
        FIELD(layernorm_fwd, rstd, OUTPUT),
        FIELD(layernorm_bwd_input, dy, 0),
        FIELD(layernorm_bwd_input, x, 0),
        FIELD(layernorm_bwd_input, mean, 0),
        FIELD(layernorm_bwd_input, rstd, 0),
        FIELD(layernorm_bwd_input, gamma, 0),
        FIELD(layernorm_bwd_input, dx, OUTPUT),
        FIELD(layernorm_bwd_weight, dy, 0),
        FIELD(layernorm_bwd_weight, x, 0),
        FIELD(layernorm_bwd_weight, mean, 0),
        FIELD(layernorm_bwd_weight, rstd, 0),
        FIELD(layernorm_bwd_weight, dgamma, OUTPUT),
        FIELD(layernorm_bwd_weight, dbeta, OUTPUT),
        FIELD(dropout_add_layernorm_fwd, z, 0),
        FIELD(dropout_add_layernorm_fwd, residual, 0),
        FIELD(dropout_add_layernorm_fwd, gamma, 0),
        FIELD(dropout_add_layernorm_fwd, beta, 0),
        FIELD(dropout_add_layernorm_fwd, sum, OUTPUT),
        FIELD(dropout_add_layernorm_fwd, y, OUTPUT),
        FIELD(dropout_add_layernorm_fwd, mean, OUTPUT),
        FIELD(dropout_add_layernorm_fwd, rstd, OUTPUT),
        FIELD(dropout_add_layernorm_bwd_input, dy, 0),
        FIELD(dropout_add_layernorm_bwd_input, sum, 0),
        FIELD(dropout_add_layernorm_bwd_input, mean, 0),
        FIELD(dropout_add_layernorm_bwd_input, rstd, 0),
        FIELD(dropout_add_layernorm_bwd_input, gamma, 0),
        FIELD(dropout_add_layernorm_bwd_input, dresidual, OUTPUT),
        FIELD(dropout_add_layernorm_bwd_input, dz, OUTPUT),
        FIELD(attention_fwd, qkv, 0),
        FIELD(attention_fwd, probs, OUTPUT),
        FIELD(attention_fwd, out, OUTPUT),
        FIELD(attention_bwd, qkv, 0),
        FIELD(attention_bwd, probs, 0),
        FIELD(attention_bwd, dout, 0),
        FIELD(attention_bwd, dqkv, OUTPUT),
        FIELD(cross_entropy, logits, 0),
        FIELD(cross_entropy, targets, 0),
        FIELD(cross_entropy, losses, OUTPUT),
        FIELD(cross_entropy, dlogits, OPTIONAL | OUTPUT),
        FIELD(sum_squares, x, ANY_SHAPE),
        FIELD(sum_squares, out, OUTPUT),
        FIELD(clip_scale, sums, ANY_SHAPE),
        FIELD(clip_scale, norm, OUTPUT),
        FIELD(clip_scale, scale, OUTPUT),
        FIELD(sgd, w, OUTPUT),
        FIELD(sgd, g, 0),
        FIELD(sgd, scale, 0),
};

enum fault { ABSENT, DTYPE, SHAPE, EMPTY, DEVICE, OUTSIDE, MISALIGNED, STRIDED, RANK, FAULTS };

static ps_tensor damaged(ps_tensor tensor, enum fault fault)
{
	int last = tensor.rank - 1;
	switch (fault) {
	case ABSENT:
		tensor.buffer = NULL;
		break;
	case DTYPE:
		tensor.dtype = tensor.dtype == PS_I32 ? PS_F32 : PS_I32;
		break;
	case SHAPE:
		tensor = ps_tensor_make(tensor.buffer, tensor.offset, tensor.dtype, tensor.rank, tensor.dims);
		tensor.dims[last]++;
		tensor = ps_tensor_make(tensor.buffer, tensor.offset, tensor.dtype, tensor.rank, tensor.dims);
		break;
	case EMPTY:
		tensor.dims[0] = 0;
		break;
	case DEVICE:
		tensor.buffer = probe.far_buffer;
		break;
	case OUTSIDE:
		tensor.offset = 1 << 16;
		break;
	case MISALIGNED:
		tensor.offset += 2;
		break;
	case STRIDED:
		tensor.dims[last] = 2;
		tensor.strides[last] = 2;
		break;
	case RANK:
		tensor.rank = PS_MAX_RANK + 1;
		break;
	case FAULTS:
		break;
	}
	return tensor;
}

START_TEST(test_good_arguments)
{
	union {
		max_align_t align;
		unsigned char bytes[2048];
	} arguments = {.bytes = {0}};
	probe_set_up();
	for (int op = 0; op < PS_OP_COUNT; op++) {
		size_t bytes = ps__op_bytes((ps_op)op);
		make_good((ps_op)op, &arguments);
		check_ok(ps_op_run(probe.queue, (ps_op)op, &arguments, bytes));
		ck_assert_int_eq(probe.seen.op, op);
		ck_assert_mem_eq(probe.seen.arguments.bytes, arguments.bytes, bytes);
		ck_assert_int_eq(probe.seen.calls, op + 1);
		ck_assert_uint_gt(strlen(ps_op_name((ps_op)op)), 0);
		ck_assert_uint_gt(strlen(ps_op_text((ps_op)op)), 0);
	}
	probe_tear_down();
}
END_TEST

/* Every fault of one argument. */
static void check_faults(const struct field *field)
{
	union {
		max_align_t align;
		unsigned char bytes[2048];
	} arguments;
	ps_tensor tensor;
	for (int fault = 0; fault < FAULTS; fault++) {
		if ((field->flags & ANY_SHAPE) && fault == SHAPE)
			continue;
		memset(&arguments, 0, sizeof arguments);
		probe.used = 0;
		probe.seen.calls = 0;
		make_good(field->op, &arguments);
		memcpy(&tensor, arguments.bytes + field->offset, sizeof tensor);
		tensor = damaged(tensor, (enum fault)fault);
		memcpy(arguments.bytes + field->offset, &tensor, sizeof tensor);
		ps_status status = ps_op_run(probe.queue, field->op, &arguments, ps__op_bytes(field->op));
		bool optional = (field->flags & OPTIONAL) && fault == ABSENT;
		ck_assert_msg(status == (optional ? PS_OK : PS_EINVAL), "%s, %s, fault %d: %s", ps_op_name(field->op),
		              field->name, fault, ps_status_name(status));
		ck_assert_int_eq(probe.seen.calls, optional);
		if (status == PS_OK)
			continue;
		check_message(ps_op_name(field->op));
		check_message(" on ref: ");
	}
}

START_TEST(test_wrong_arguments)
{
	int tried = 0;
	probe_set_up();
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		if (fields[i].op != (ps_op)_i)
			continue;
		check_faults(&fields[i]);
		tried++;
	}
	ck_assert_int_ge(tried, 2);
	probe_tear_down();
}
END_TEST

/* An output may be the view that these inputs are; all other pairs with an output in them may not overlap. */
static const struct {
	ps_op op;
	const char *output, *input;
} allowed[] = {
        {PS_OP_add, "y", "a"},
        {PS_OP_add, "y", "b"},
        {PS_OP_relu_fwd, "y", "x"},
        {PS_OP_relu_bwd, "dx", "dy"},
        {PS_OP_dropout, "y", "x"},
        {PS_OP_relu_dropout_fwd, "y", "x"},
        {PS_OP_relu_dropout_bwd, "dx", "dy"},
        {PS_OP_layernorm_bwd_input, "dx", "dy"},
        {PS_OP_dropout_add_layernorm_fwd, "sum", "z"},
        {PS_OP_dropout_add_layernorm_bwd_input, "dresidual", "dy"},
        {PS_OP_cross_entropy, "dlogits", "logits"},
};

static bool may_alias(const struct field *a, const struct field *b)
{
	if (!((a->flags | b->flags) & OUTPUT))
		return true;
	const struct field *output = a->flags & OUTPUT ? a : b, *input = output == a ? b : a;
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (allowed[i].op == a->op && !strcmp(allowed[i].output, output->name) &&
		    !strcmp(allowed[i].input, input->name))
			return true;
	return false;
}

/* Good arguments, but for the second field, which starts `shift` bytes after the first one does. */
static ps_status run_overlapping(const struct field *first, const struct field *second, uint64_t shift)
{
	union {
		max_align_t align;
		unsigned char bytes[2048];
	} arguments = {.bytes = {0}};
	ps_tensor a, b;
	make_good(first->op, &arguments);
	memcpy(&a, arguments.bytes + first->offset, sizeof a);
	memcpy(&b, arguments.bytes + second->offset, sizeof b);
	b.offset = a.offset + shift;
	memcpy(arguments.bytes + second->offset, &b, sizeof b);
	probe.used = 0;
	return ps_op_run(probe.queue, first->op, &arguments, ps__op_bytes(first->op));
}

static void check_overlap(const struct field *first, const struct field *second)
{
	bool inputs = !((first->flags | second->flags) & OUTPUT);
	ps_status status = run_overlapping(first, second, 0);
	ck_assert_msg((status == PS_OK) == may_alias(first, second), "%s: %s at the place of %s: %s",
	              ps_op_name(first->op), second->name, first->name, ps_status_name(status));
	if (status != PS_OK)
		check_message(" overlaps ");
	/* Eight bytes further on it is no longer the same view, but aligned for any dtype. */
	status = run_overlapping(first, second, 8);
	if (inputs)
		ck_assert_int_eq(status, PS_OK);
	else if (may_alias(first, second))
		ck_assert_int_eq(status, PS_EINVAL);
}

START_TEST(test_overlaps)
{
	enum { COUNT = sizeof fields / sizeof *fields };
	probe_set_up();
	for (int i = 0; i < COUNT; i++)
		for (int j = 0; j < COUNT; j++)
			if (i != j && fields[i].op == (ps_op)_i && fields[j].op == (ps_op)_i)
				check_overlap(&fields[i], &fields[j]);
	probe_tear_down();
}
END_TEST

START_TEST(test_columns_beside_each_other)
{
	probe_set_up();
	ps_tensor wide = MATRIX(3, 9), b = MATRIX(4, 5);
	ps_tensor left = ps_tensor_slice(wide, 1, 0, 4), right = ps_tensor_slice(wide, 1, 4, 5);
	check_ok(ps_run(probe.queue, gemm, .a = left, .b = b, .c = right));
	check_fails(ps_run(probe.queue, gemm, .a = ps_tensor_slice(wide, 1, 1, 4), .b = b, .c = right), PS_EINVAL);
	check_message("gemm on ref: c, fp32 (3, 5), overlaps a, fp32 (3, 4), which it may not");
	probe_tear_down();
}
END_TEST

START_TEST(test_wrong_calls)
{
	ps_args_add add;
	probe_set_up();
	make_good(PS_OP_add, &add);
	check_fails(ps_op_run(probe.queue, PS_OP_add, &add, sizeof add - 1), PS_EINVAL);
	check_fails(ps_op_run(probe.queue, PS_OP_relu_fwd, &add, sizeof add), PS_EINVAL);
	check_fails(ps_op_run(probe.queue, PS_OP_COUNT, &add, sizeof add), PS_EINVAL);
	check_fails(ps_op_run(probe.queue, (ps_op)-1, &add, sizeof add), PS_EINVAL);
	ck_assert_str_eq(ps_op_name(PS_OP_COUNT), "no op");
	ck_assert_str_eq(ps_op_text((ps_op)-1), "");
	/* fp64 and fp32 do not mix. */
	add.b = probe_tensor(PS_F64, 2, (int64_t[]){3, 4});
	check_fails(ps_op_run(probe.queue, PS_OP_add, &add, sizeof add), PS_EINVAL);
	check_message("add on ref: b is fp64 (3, 4), which should be fp32");
	ck_assert_int_eq(probe.seen.calls, 0);
	probe_tear_down();
}
END_TEST

START_TEST(test_dropout_is_a_probability)
{
	static const float wrong[] = {-0.1f, 1, 2, -1e30f};
	probe_set_up();
	ps_tensor x = MATRIX(3, 4), y = MATRIX(3, 4);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		check_fails(ps_run(probe.queue, dropout, .x = x, .y = y, .drop.p = wrong[i]), PS_EINVAL);
		check_message("which should be at least 0 and below 1");
		check_fails(ps_run(probe.queue, relu_dropout_bwd, .dy = x, .y = x, .dx = y, .p = wrong[i]), PS_EINVAL);
	}
	volatile float zero = 0;
	check_fails(ps_run(probe.queue, dropout, .x = x, .y = y, .drop.p = zero / zero), PS_EINVAL);
	check_ok(ps_run(probe.queue, dropout, .x = x, .y = y, .drop.p = 0));
	check_fails(ps_run(probe.queue, attention_fwd, .qkv = CUBE(ROWS, TIME, 3 * WIDTH),
	                   .probs = probe_tensor(PS_F32, 4, (int64_t[]){ROWS, 3, TIME, TIME}),
	                   .out = CUBE(ROWS, TIME, WIDTH), .heads = 3),
	            PS_EINVAL);
	check_message("3 heads do not divide the width 4");
	probe_tear_down();
}
END_TEST

START_TEST(test_gemm_layouts)
{
	probe_set_up();
	ps_tensor a = MATRIX(3, 4), at = MATRIX(4, 3), b = MATRIX(4, 5), bt = MATRIX(5, 4), c = MATRIX(3, 5);
	check_ok(ps_run(probe.queue, gemm, .a = at, .b = bt, .c = c, .trans_a = true, .trans_b = true));
	check_ok(ps_run(probe.queue, gemm, .a = a, .b = bt, .c = c, .trans_b = true, .accumulate = true));
	check_fails(ps_run(probe.queue, gemm, .a = at, .b = b, .c = c), PS_EINVAL);
	check_message("a is fp32 (4, 3), which should be (3, ");
	check_fails(ps_run(probe.queue, gemm, .a = a, .b = bt, .c = c), PS_EINVAL);
	/* Rows may be further apart than they are long, but not nearer. */
	ps_tensor wide = MATRIX(3, 9);
	check_ok(ps_run(probe.queue, gemm, .a = ps_tensor_slice(wide, 1, 2, 4), .b = b, .c = c));
	a.strides[0] = 3;
	check_fails(ps_run(probe.queue, gemm, .a = a, .b = b, .c = c), PS_EINVAL);
	probe_tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ops");
	TCase *cases = tcase_create("ops");
	tcase_add_test(cases, test_good_arguments);
	tcase_add_loop_test(cases, test_wrong_arguments, 0, PS_OP_COUNT);
	tcase_add_loop_test(cases, test_overlaps, 0, PS_OP_COUNT);
	tcase_add_test(cases, test_columns_beside_each_other);
	tcase_add_test(cases, test_wrong_calls);
	tcase_add_test(cases, test_dropout_is_a_probability);
	tcase_add_test(cases, test_gemm_layouts);
	suite_add_tcase(suite, cases);
	return check_run(suite);
}

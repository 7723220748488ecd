/*
 * What the shared check refuses, for every tensor of every op: absent, on another device, of another dtype, of another
 * shape, not contiguous, outside of its buffer, not aligned; and the scalars that are out of range. Refusals are
 * PS_EINVAL with the names of the op and of the tensor in the message.
 */
#include "support/conform.h"
#include "support/rig.h"

#include "core/backend.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 3, TIME = 4, HEADS = 2, WIDTH = 6, OUT = 5, WORDS = 7, LONGER = 9 };

/* The arguments of any op. */
union arguments {
#define PS_OP(name, text) ps_args_##name name;
#include <penstock/ops.def>
};

/* Where a tensor stands in its op's arguments, what makes its valid value, and which refusals do not apply to it. */
enum freedom { OPTIONAL = 1, ANY_SHAPE = 2, STRIDED = 4, ANY_ROWS = 8 };

struct field {
	const char *name;
	size_t offset;
	int64_t dims[4];
	ps_op op;
	int rank;
	enum { FLOATING, DOUBLE, WORD, HALF } kind; /* HALF: BF16, and only beside F32 */
	int freedom;
};

#define FIELD(of, tensor, type, may, ...)                                                                 \
	{                                                                                                 \
		.op = PS_OP_##of, .name = #tensor, .offset = offsetof(ps_args_##of, tensor),              \
		.rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dims = {__VA_ARGS__}, \
		.kind = (type), .freedom = (may),                                                         \
	}
#define CUBE ROWS, TIME, WIDTH

static const struct field fields[] = {
        FIELD(gemm, a, FLOATING, STRIDED, ROWS, WIDTH),
        FIELD(gemm, b, FLOATING, STRIDED, WIDTH, OUT),
        FIELD(gemm, c, FLOATING, STRIDED, ROWS, OUT),
        FIELD(gemm, bias, FLOATING, OPTIONAL, OUT),
        FIELD(column_sum, x, FLOATING, ANY_ROWS, ROWS, WIDTH),
        FIELD(column_sum, y, FLOATING, 0, WIDTH),
        FIELD(add, a, FLOATING, 0, CUBE),
        FIELD(add, b, FLOATING, 0, CUBE),
        FIELD(add, y, FLOATING, 0, CUBE),
        FIELD(relu_fwd, x, FLOATING, 0, CUBE),
        FIELD(relu_fwd, y, FLOATING, 0, CUBE),
        FIELD(relu_bwd, dy, FLOATING, 0, CUBE),
        FIELD(relu_bwd, y, FLOATING, 0, CUBE),
        FIELD(relu_bwd, dx, FLOATING, 0, CUBE),
        FIELD(dropout, x, FLOATING, 0, CUBE),
        FIELD(dropout, y, FLOATING, 0, CUBE),
        FIELD(relu_dropout_fwd, x, FLOATING, 0, CUBE),
        FIELD(relu_dropout_fwd, y, FLOATING, 0, CUBE),
        FIELD(relu_dropout_bwd, dy, FLOATING, 0, CUBE),
        FIELD(relu_dropout_bwd, y, FLOATING, 0, CUBE),
        FIELD(relu_dropout_bwd, dx, FLOATING, 0, CUBE),
        FIELD(embedding_fwd, tokens, WORD, 0, ROWS, TIME),
        FIELD(embedding_fwd, weight, FLOATING, STRIDED | ANY_ROWS, WORDS, WIDTH),
        FIELD(embedding_fwd, positions, FLOATING, STRIDED, TIME, WIDTH),
        FIELD(embedding_fwd, y, FLOATING, 0, CUBE),
        FIELD(embedding_bwd_weight, tokens, WORD, 0, ROWS, TIME),
        FIELD(embedding_bwd_weight, dy, FLOATING, 0, CUBE),
        FIELD(embedding_bwd_weight, dweight, FLOATING, ANY_ROWS, WORDS, WIDTH),
        FIELD(layernorm_fwd, x, FLOATING, 0, CUBE),
        FIELD(layernorm_fwd, gamma, FLOATING, 0, WIDTH),
        FIELD(layernorm_fwd, beta, FLOATING, 0, WIDTH),
        FIELD(layernorm_fwd, y, FLOATING, 0, CUBE),
        FIELD(layernorm_fwd, mean, FLOATING, 0, ROWS, TIME),
        FIELD(layernorm_fwd, rstd, FLOATING, 0, ROWS *TIME),
        FIELD(layernorm_bwd_input, dy, FLOATING, 0, CUBE),
        FIELD(layernorm_bwd_input, x, FLOATING, 0, CUBE),
        FIELD(layernorm_bwd_input, mean, FLOATING, 0, ROWS *TIME),
        FIELD(layernorm_bwd_input, rstd, FLOATING, 0, ROWS *TIME),
        FIELD(layernorm_bwd_input, gamma, FLOATING, 0, WIDTH),
        FIELD(layernorm_bwd_input, dx, FLOATING, 0, CUBE),
        FIELD(layernorm_bwd_weight, dy, FLOATING, 0, CUBE),
        FIELD(layernorm_bwd_weight, x, FLOATING, 0, CUBE),
        FIELD(layernorm_bwd_weight, mean, FLOATING, 0, ROWS *TIME),
        FIELD(layernorm_bwd_weight, rstd, FLOATING, 0, ROWS *TIME),
        FIELD(layernorm_bwd_weight, dgamma, FLOATING, 0, WIDTH),
        FIELD(layernorm_bwd_weight, dbeta, FLOATING, 0, WIDTH),
        FIELD(dropout_add_layernorm_fwd, z, FLOATING, 0, CUBE),
        FIELD(dropout_add_layernorm_fwd, residual, FLOATING, 0, CUBE),
        FIELD(dropout_add_layernorm_fwd, gamma, FLOATING, 0, WIDTH),
        FIELD(dropout_add_layernorm_fwd, beta, FLOATING, 0, WIDTH),
        FIELD(dropout_add_layernorm_fwd, sum, FLOATING, 0, CUBE),
        FIELD(dropout_add_layernorm_fwd, y, FLOATING, 0, CUBE),
        FIELD(dropout_add_layernorm_fwd, mean, FLOATING, 0, ROWS *TIME),
        FIELD(dropout_add_layernorm_fwd, rstd, FLOATING, 0, ROWS *TIME),
        FIELD(dropout_add_layernorm_bwd_input, dy, FLOATING, 0, CUBE),
        FIELD(dropout_add_layernorm_bwd_input, sum, FLOATING, 0, CUBE),
        FIELD(dropout_add_layernorm_bwd_input, mean, FLOATING, 0, ROWS *TIME),
        FIELD(dropout_add_layernorm_bwd_input, rstd, FLOATING, 0, ROWS *TIME),
        FIELD(dropout_add_layernorm_bwd_input, gamma, FLOATING, 0, WIDTH),
        FIELD(dropout_add_layernorm_bwd_input, dresidual, FLOATING, 0, CUBE),
        FIELD(dropout_add_layernorm_bwd_input, dz, FLOATING, 0, CUBE),
        FIELD(attention_fwd, qkv, FLOATING, 0, ROWS, TIME, 3 * WIDTH),
        FIELD(attention_fwd, probs, FLOATING, 0, ROWS, HEADS, TIME, TIME),
        FIELD(attention_fwd, out, FLOATING, 0, CUBE),
        FIELD(attention_bwd, qkv, FLOATING, 0, ROWS, TIME, 3 * WIDTH),
        FIELD(attention_bwd, probs, FLOATING, 0, ROWS, HEADS, TIME, TIME),
        FIELD(attention_bwd, dout, FLOATING, 0, CUBE),
        FIELD(attention_bwd, dqkv, FLOATING, 0, ROWS, TIME, 3 * WIDTH),
        FIELD(cross_entropy, logits, FLOATING, 0, ROWS, TIME, WORDS),
        FIELD(cross_entropy, targets, WORD, 0, ROWS, TIME),
        FIELD(cross_entropy, losses, FLOATING, 0, ROWS, TIME),
        FIELD(cross_entropy, dlogits, FLOATING, OPTIONAL, ROWS, TIME, WORDS),
        FIELD(sum_squares, x, FLOATING, ANY_SHAPE, CUBE),
        FIELD(sum_squares, out, DOUBLE, 0, 1),
        FIELD(clip_scale, sums, DOUBLE, ANY_SHAPE, ROWS),
        FIELD(clip_scale, norm, DOUBLE, 0, 1),
        FIELD(clip_scale, scale, DOUBLE, 0, 1),
        FIELD(sgd, w, FLOATING, 0, CUBE),
        FIELD(sgd, g, FLOATING, 0, CUBE),
        FIELD(sgd, scale, DOUBLE, 0, 1),
        FIELD(sgd, copy, HALF, OPTIONAL, CUBE),
};

enum { FIELDS = sizeof fields / sizeof *fields, SLOT_BYTES = 4096, BUFFER_BYTES = 16 * SLOT_BYTES };

static struct rig rig, other;
static ps_buffer *buffer, *foreign;

static void setup(void)
{
	rig_open(&rig, "ref");
	rig_open(&other, "ref");
	check_ok(ps_buffer_create(&buffer, ps_queue_device(rig.queue), BUFFER_BYTES));
	check_ok(ps_buffer_create(&foreign, ps_queue_device(other.queue), BUFFER_BYTES));
}

static void teardown(void)
{
	ps_buffer_destroy(buffer);
	ps_buffer_destroy(foreign);
	rig_close(&rig);
	rig_close(&other);
}

/* Each tensor of an op has a slot of the buffer to itself. */
static ps_tensor valid(const struct field *field, ps_dtype floating)
{
	uint64_t slot = 0;
	for (const struct field *before = fields; before < field; before++)
		slot += before->op == field->op;
	const ps_dtype dtypes[] = {[FLOATING] = floating, [DOUBLE] = PS_F64, [WORD] = PS_I32, [HALF] = PS_BF16};
	ps_dtype dtype = dtypes[field->kind];
	return ps_tensor_make(buffer, slot * SLOT_BYTES + 64, dtype, field->rank, field->dims);
}

static ps_tensor *tensor_in(union arguments *arguments, const struct field *field)
{
	return (ps_tensor *)(void *)((char *)arguments + field->offset);
}

/* Valid arguments of an op. The check looks at no data. */
static union arguments arguments_of(ps_op op, ps_dtype floating)
{
	union arguments arguments;
	memset(&arguments, 0, sizeof arguments);
	for (int i = 0; i < FIELDS; i++)
		if (fields[i].op == op && (fields[i].kind != HALF || floating == PS_F32))
			*tensor_in(&arguments, &fields[i]) = valid(&fields[i], floating);
	if (op == PS_OP_attention_fwd)
		arguments.attention_fwd.heads = HEADS;
	if (op == PS_OP_attention_bwd)
		arguments.attention_bwd.heads = HEADS;
	return arguments;
}

static ps_status check(ps_op op, const union arguments *arguments)
{
	return ps__op_check(ps_queue_device(rig.queue), op, arguments);
}

START_TEST(every_tensor_is_listed)
{
	/* The tensors of an op's arguments in the table fill the struct up to its scalars. */
	for (int op = 0; op < PS_OP_COUNT; op++) {
		size_t bytes = 0;
		for (int i = 0; i < FIELDS; i++)
			bytes += fields[i].op == (ps_op)op ? sizeof(ps_tensor) : 0;
		ck_assert_msg(bytes > 0 && ps__op_bytes((ps_op)op) - bytes < sizeof(ps_tensor),
		              "the table of this test lacks tensors of %s", ps_op_name((ps_op)op));
	}
}
END_TEST

START_TEST(valid_arguments)
{
	for (int op = 0; op < PS_OP_COUNT; op++)
		for (int dtype = PS_F32; dtype <= PS_F64; dtype++) {
			union arguments arguments = arguments_of((ps_op)op, (ps_dtype)dtype);
			check_ok(check((ps_op)op, &arguments));
			for (int i = 0; i < FIELDS; i++) {
				if (fields[i].op != (ps_op)op || !(fields[i].freedom & OPTIONAL))
					continue;
				tensor_in(&arguments, &fields[i])->buffer = NULL;
				check_ok(check((ps_op)op, &arguments));
			}
		}
}
END_TEST

/* Where two tensors disagree either may be the wrong one, so that a message need not name this one. */
static void refused(const struct field *field, const char *how, const union arguments *arguments, bool named)
{
	ps_status status = check(field->op, arguments);
	ck_assert_msg(status == PS_EINVAL, "%s: %s %s is taken: %s", ps_op_name(field->op), field->name, how,
	              ps_status_name(status));
	const char *message = ps_error_message();
	char name[32];
	snprintf(name, sizeof name, ": %s is", field->name);
	ck_assert_msg(strstr(message, ps_op_name(field->op)) == message, "no op in \"%s\"", message);
	ck_assert_msg(strstr(message, "ref"), "no device in \"%s\"", message);
	ck_assert_msg(!named || strstr(message, name), "%s: %s %s: no such name in \"%s\"", ps_op_name(field->op),
	              field->name, how, message);
}

/* The smallest offset from which the tensor does not fit into the buffer. */
static uint64_t one_too_far(ps_tensor tensor)
{
	return BUFFER_BYTES - (uint64_t)(ps_tensor_count(tensor) - 1) * ps_dtype_bytes(tensor.dtype);
}

/* Makes the field's tensor wrong in one way and checks that it is refused. */
#define REFUSED(how, named, change)                                          \
	do {                                                                 \
		union arguments arguments = arguments_of(field->op, PS_F32); \
		ps_tensor *tensor = tensor_in(&arguments, field);            \
		change;                                                      \
		refused(field, how, &arguments, named);                      \
	} while (0)

START_TEST(wrong_tensors)
{
	const struct field *field = &fields[_i];
	int last = field->rank - 1;
	if (!(field->freedom & OPTIONAL))
		REFUSED("absent", true, tensor->buffer = NULL);
	REFUSED("on another device", true, tensor->buffer = foreign);
	REFUSED("of another rank", true, tensor->rank = PS_MAX_RANK + 1);
	REFUSED("past its buffer", true, tensor->offset = one_too_far(*tensor));
	REFUSED("far past its buffer", true, tensor->offset = UINT64_MAX - 7);
	REFUSED("not aligned", true, tensor->offset += field->kind == HALF ? 1 : 2);
	REFUSED("empty", true, tensor->dims[last] = 0);
	REFUSED("of negative size", true, tensor->dims[0] = -1);
	REFUSED("of I32 or not", field->kind != FLOATING, tensor->dtype = tensor->dtype == PS_I32 ? PS_F32 : PS_I32);
	if (!(field->op == PS_OP_sum_squares && field->kind == FLOATING))
		REFUSED("of the other floating dtype", false,
		        tensor->dtype = tensor->dtype == PS_F32 ? PS_F64 : PS_F32);
	if (!(field->freedom & ANY_SHAPE)) {
		REFUSED("wider", false,
		        *tensor = ps_tensor_make(
		                buffer, 64, tensor->dtype, field->rank,
		                ((int64_t[]){field->dims[0] + (last == 0), field->dims[1] + (last == 1),
		                             field->dims[2] + (last == 2), field->dims[3] + (last == 3)})));
		if (last > 0 && !(field->freedom & ANY_ROWS) && strcmp(field->name, "positions") != 0)
			REFUSED("longer", false,
			        *tensor = ps_tensor_make(buffer, 64, tensor->dtype, field->rank,
			                                 ((int64_t[]){field->dims[0] + 1, field->dims[1],
			                                              field->dims[2], field->dims[3]})));
	}
	if (last > 0) {
		REFUSED("with gaps between columns", true, tensor->strides[last] = 2);
		if (field->freedom & STRIDED)
			REFUSED("with rows that overlap", true, tensor->strides[0] = tensor->dims[1] - 1);
		else
			REFUSED("with gaps between rows", true, tensor->strides[0] += 1);
	}
}
END_TEST

/* Where ops.h lets a tensor be BF16, alone or with others (each a mask over the op's tensors in the table's order). */
static const struct {
	ps_op op;
	unsigned bf16[8];
} bf16_rows[] = {
        {PS_OP_gemm, {1, 2, 3, 4, 5, 6, 7}},
        {PS_OP_embedding_fwd, {2}},
        {PS_OP_embedding_bwd_weight, {4}},
        {PS_OP_sum_squares, {1}},
        {PS_OP_sgd, {3}},
};

static bool may_be_bf16(ps_op op, unsigned mask)
{
	for (size_t r = 0; r < sizeof bf16_rows / sizeof *bf16_rows; r++)
		for (int i = 0; i < 8 && bf16_rows[r].op == op; i++)
			if (bf16_rows[r].bf16[i] == mask && mask)
				return true;
	return false;
}

/* All combinations of BF16 and F32 over an op's floating-point tensors, and BF16 beside F64. */
START_TEST(bf16_tensors)
{
	for (int op = 0; op < PS_OP_COUNT; op++) {
		const struct field *of[8];
		int count = 0;
		for (int i = 0; i < FIELDS; i++)
			if (fields[i].op == (ps_op)op && count < 8)
				of[count++] = &fields[i];
		for (unsigned mask = 1; mask < 1U << count; mask++) {
			union arguments arguments = arguments_of((ps_op)op, PS_F32);
			union arguments wide = arguments_of((ps_op)op, PS_F64);
			bool floating = true;
			for (int i = 0; i < count; i++) {
				if (!(mask >> i & 1))
					continue;
				floating = floating && of[i]->kind == FLOATING;
				tensor_in(&arguments, of[i])->dtype = PS_BF16;
				tensor_in(&wide, of[i])->dtype = PS_BF16;
			}
			if (!floating)
				continue;
			if (op == PS_OP_sgd && mask == 3)
				arguments.sgd.copy.buffer = NULL;
			ps_status status = check((ps_op)op, &arguments);
			ck_assert_msg((status == PS_OK) == may_be_bf16((ps_op)op, mask), "%s with BF16 %x: %s",
			              ps_op_name((ps_op)op), mask, ps_status_name(status));
			/* Nothing is BF16 beside a tensor that is F64. */
			if (may_be_bf16((ps_op)op, mask) && op != PS_OP_sum_squares &&
			    !(op == PS_OP_sgd && mask == 3) && !(op == PS_OP_gemm && mask == 7))
				ck_assert_int_eq(check((ps_op)op, &wide), PS_EINVAL);
		}
	}
}
END_TEST

START_TEST(views_are_taken)
{
	for (int i = 0; i < FIELDS; i++) {
		if (!(fields[i].freedom & STRIDED))
			continue;
		union arguments arguments = arguments_of(fields[i].op, PS_F32);
		tensor_in(&arguments, &fields[i])->strides[0] = 50;
		check_ok(check(fields[i].op, &arguments));
	}
}
END_TEST

static void refused_scalar(ps_op op, const union arguments *arguments, const char *word)
{
	ck_assert_msg(check(op, arguments) == PS_EINVAL, "%s takes a wrong %s", ps_op_name(op), word);
	ck_assert_msg(strstr(ps_error_message(), ps_op_name(op)) && strstr(ps_error_message(), word), "\"%s\"",
	              ps_error_message());
}

START_TEST(wrong_scalars)
{
	const float bad[] = {-0.1F, 1, 2, NAN, INFINITY};
	for (int op = 0; op < PS_OP_COUNT; op++) {
		union arguments arguments = arguments_of((ps_op)op, PS_F32);
		int at = ps__op_place_offset((ps_op)op);
		float *p = NULL;
		if (at >= 0 && op != PS_OP_sgd)
			p = &((ps_dropout *)(void *)((char *)&arguments + at - offsetof(ps_dropout, place)))->p;
		if (op == PS_OP_relu_dropout_bwd)
			p = &arguments.relu_dropout_bwd.p;
		for (size_t i = 0; p && i < sizeof bad / sizeof *bad; i++) {
			*p = bad[i];
			refused_scalar((ps_op)op, &arguments, "dropout is");
		}
	}
	const int heads[] = {0, -1, 4, 7};
	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
		union arguments arguments = arguments_of(PS_OP_attention_fwd, PS_F32);
		arguments.attention_fwd.heads = heads[i];
		refused_scalar(PS_OP_attention_fwd, &arguments, "heads");
		arguments = arguments_of(PS_OP_attention_bwd, PS_F32);
		arguments.attention_bwd.heads = heads[i];
		refused_scalar(PS_OP_attention_bwd, &arguments, "heads");
	}
}
END_TEST

START_TEST(positions_too_few)
{
	union arguments arguments = arguments_of(PS_OP_embedding_fwd, PS_F32);
	arguments.embedding_fwd.positions.dims[0] = LONGER;
	check_ok(check(PS_OP_embedding_fwd, &arguments));
	arguments.embedding_fwd.positions.dims[0] = TIME - 1;
	refused_scalar(PS_OP_embedding_fwd, &arguments, "positions");
}
END_TEST

/* A wrong pair of op and struct, and an op that does not exist. */
START_TEST(wrong_struct)
{
	union arguments arguments = arguments_of(PS_OP_add, PS_F32);
	ck_assert_int_eq(ps_op_run(rig.queue, PS_OP_add, &arguments, sizeof(ps_args_relu_fwd)), PS_EINVAL);
	ck_assert_int_eq(ps_op_run(rig.queue, PS_OP_COUNT, &arguments, sizeof(ps_args_add)), PS_EINVAL);
	ck_assert_int_eq(ps_op_run(rig.queue, (ps_op)-1, &arguments, sizeof(ps_args_add)), PS_EINVAL);
	arguments.add.b.buffer = NULL;
	ck_assert_int_eq(ps_op_run(rig.queue, PS_OP_add, &arguments, sizeof(ps_args_add)), PS_EINVAL);
	check_ok(ps_queue_finish(rig.queue));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("op check");
	TCase *tests = tcase_create("refusals");
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, every_tensor_is_listed);
	tcase_add_test(tests, valid_arguments);
	tcase_add_loop_test(tests, wrong_tensors, 0, FIELDS);
	tcase_add_test(tests, bf16_tensors);
	tcase_add_test(tests, views_are_taken);
	tcase_add_test(tests, wrong_scalars);
	tcase_add_test(tests, positions_too_few);
	tcase_add_test(tests, wrong_struct);
	suite_add_tcase(suite, tests);
	return conform_suite_run(suite);
}

/* Rows of products, which have the same bits however many are multiplied at once. */
#include "conformance/rows.h"
#include "support/conform.h"
#include "support/rig.h"

#include <penstock/bf16.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which m are tried: 1 to 33, or many up to 100, or those that decide; the last two not on the reference. */
enum size { SMALL, MANY, FEW };

struct product {
	int64_t n, k;
	bool trans_b;
	enum size size;
};

static const struct product products[] = {
        {1, 1, false, SMALL},      {3, 7, true, SMALL},      {17, 33, false, SMALL},    {65, 129, true, SMALL},
        {129, 1000, false, SMALL}, {64, 128, true, SMALL},   {512, 512, true, MANY},    {4096, 4096, true, MANY},
        {1536, 512, true, FEW},    {512, 1536, false, FEW},  {2048, 512, true, FEW},    {512, 2048, true, FEW},
        {28782, 512, true, FEW},   {512, 28782, false, FEW}, {4096, 4096, false, FEW},  {12288, 4096, true, FEW},
        {4096, 12288, false, FEW}, {28782, 4096, true, FEW}, {4096, 28782, false, FEW},
};

/* Rows of the whole product by size, and of the parts. */
static const int64_t whole_m[] = {[SMALL] = 500, [MANY] = 210, [FEW] = 100};
static const int64_t many_m[] = {1, 2, 3, 4, 5, 7, 8, 16, 17, 25, 32, 33, 50, 60, 75, 100};
static const int64_t few_m[] = {1, 3, 25, 75};

/* The i-th m to try; 0 after the last. */
static int64_t part_m(enum size size, size_t i)
{
	if (size == SMALL)
		return i < 33 ? (int64_t)i + 1 : 0;
	if (size == MANY)
		return i < sizeof many_m / sizeof *many_m ? many_m[i] : 0;
	return i < sizeof few_m / sizeof *few_m ? few_m[i] : 0;
}

/* A matrix with random rows, which repeat after a while: large ones would take longer to fill than to multiply. */
static ps_tensor filled(struct rig *rig, ps_dtype dtype, int64_t rows, int64_t columns)
{
	enum { PERIOD = 1 << 16 };
	ps_tensor tensor = ps_tensor_make(NULL, 0, dtype, 2, (int64_t[]){rows, columns});
	size_t count = (size_t)(rows * columns);
	float *values = malloc(count * sizeof *values);
	ck_assert_ptr_nonnull(values);
	for (size_t i = 0; i < count && i < PERIOD; i++)
		values[i] =
		        (float)((double)(ps__conform_mix(conform_seed() + (uint64_t)columns + i) >> 40) / 8388608 - 1);
	for (size_t i = PERIOD; i < count; i += PERIOD)
		memcpy(values + i, values, (count - i < PERIOD ? count - i : PERIOD) * sizeof *values);
	uint16_t *halves = (void *)values;
	for (size_t i = 0; i < count && dtype == PS_BF16; i++)
		halves[i] = ps_bf16_round(values[i]);
	check_ok(ps_buffer_create(&tensor.buffer, ps_queue_device(rig->queue), count * ps_dtype_bytes(dtype)));
	check_ok(ps_queue_write(rig->queue, tensor, values));
	check_ok(ps_queue_finish(rig->queue));
	free(values);
	return tensor;
}

static void *bytes_of(struct rig *rig, ps_tensor tensor)
{
	void *bytes = malloc((size_t)ps_tensor_count(tensor) * ps_dtype_bytes(tensor.dtype));
	ck_assert_ptr_nonnull(bytes);
	rig_bytes(rig, tensor, bytes);
	return bytes;
}

/* Rows of a tall product, multiplied m at a time, have the bits that they have in it. */
static void check_product(struct rig *rig, const struct product *p, ps_dtype b_dtype, ps_dtype c_dtype)
{
	int64_t all = whole_m[p->size];
	ps_tensor a = filled(rig, PS_F32, all, p->k), c = filled(rig, c_dtype, all, p->n);
	ps_tensor b = p->trans_b ? filled(rig, b_dtype, p->n, p->k) : filled(rig, b_dtype, p->k, p->n);
	ps_tensor bias = filled(rig, PS_F32, 1, p->n);
	rig_run(rig, gemm, .a = a, .b = b, .c = c, .bias = bias, .trans_b = p->trans_b);
	unsigned char *want = bytes_of(rig, c);
	size_t row_bytes = (size_t)p->n * ps_dtype_bytes(c_dtype);
	int64_t m;
	for (size_t i = 0; (m = part_m(p->size, i)) > 0; i++) {
		/* Rows from the middle, so that a start at row 0 plays no part. */
		int64_t first = (int64_t)i * 7;
		ps_tensor part = ps_tensor_slice(c, 0, 0, m);
		rig_run(rig, gemm, .a = ps_tensor_slice(a, 0, first, m), .b = b, .c = part, .bias = bias,
		        .trans_b = p->trans_b);
		unsigned char *got = bytes_of(rig, part);
		ck_assert_msg(!memcmp(got, want + (size_t)first * row_bytes, (size_t)m * row_bytes),
		              "%s: gemm n %d k %d trans_b %d, b %s, c %s: rows multiplied %d at a time differ from %d "
		              "at a time",
		              ps_queue_label(rig->queue), (int)p->n, (int)p->k, (int)p->trans_b, ps_dtype_name(b_dtype),
		              ps_dtype_name(c_dtype), (int)m, (int)all);
		free(got);
	}
	free(want);
	ps_buffer_destroy(a.buffer);
	ps_buffer_destroy(b.buffer);
	ps_buffer_destroy(c.buffer);
	ps_buffer_destroy(bias.buffer);
}

START_TEST(gemm_rows)
{
	struct rig rig;
	rig_open(&rig, conform_device(_i));
	/* For devices that multiply slowly. */
	bool small = _i == 0 || getenv("PS_TEST_SMALL");
	for (size_t i = 0; i < sizeof products / sizeof *products && rig_has(&rig, PS_OP_gemm); i++)
		if (!small || products[i].size == SMALL)
			check_product(&rig, &products[i], PS_F32, PS_F32);
	rig_close(&rig);
}
END_TEST

/* The same of bf16 products: by the queue's math, with the bf16 weights of the model, and with a bf16 result. */
START_TEST(gemm_rows_bf16)
{
	struct rig rig;
	rig_open(&rig, conform_device(_i));
	bool small = _i == 0 || getenv("PS_TEST_SMALL");
	bool able = ps_queue_set_math(rig.queue, PS_MATH_BF16) == PS_OK;
	if (!able)
		printf("skip: %s\n", ps_error_message());
	for (size_t i = 0; able && i < sizeof products / sizeof *products; i++) {
		const struct product *p = &products[i];
		if (p->size == SMALL)
			check_product(&rig, p, PS_F32, PS_F32);
		if (p->size == SMALL || !small)
			check_product(&rig, p, PS_BF16, PS_F32);
		if (p->size == SMALL || (p->size == MANY && !small))
			check_product(&rig, p, PS_BF16, PS_BF16);
	}
	rig_close(&rig);
}
END_TEST

void add_product_rows(TCase *tests)
{
	tcase_add_loop_test(tests, gemm_rows, 0, conform_device_count());
	tcase_add_loop_test(tests, gemm_rows_bf16, 0, conform_device_count());
}

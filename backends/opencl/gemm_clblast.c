/*
 * CLBlast's matrix product, and whether it is to be used.
 *
 * Before CLBlast is trusted with a class of products (transposes, accumulation, size) it makes one of that class from
 * whole numbers, whose sums are exact, and must give what our own product gives. Where ours is much faster, as on CPUs
 * for which CLBlast was not tuned, it runs instead. What was found is kept on disk by device, driver and CLBlast's
 * version, so that later starts do not check again. Calls into CLBlast are serialised: its caches are not safe before
 * 1.6.1.
 */
#include "backends/opencl/gemm.h"

#include <clblast_c.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNKNOWN, RIGHT, WRONG };

static pthread_mutex_t clblast = PTHREAD_MUTEX_INITIALIZER;

static size_t first_of(ps_tensor tensor)
{
	return (size_t)(tensor.offset / ps_dtype_bytes(tensor.dtype));
}

ps_status ps__cl_clblast_gemm(struct cl_queue *q, const struct cl_product *p)
{
	CLBlastTranspose ta = p->trans_a ? CLBlastTransposeYes : CLBlastTransposeNo;
	CLBlastTranspose tb = p->trans_b ? CLBlastTransposeYes : CLBlastTransposeNo;
	size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;
	size_t lda = (size_t)p->a.strides[0], ldb = (size_t)p->b.strides[0], ldc = (size_t)p->c.strides[0];
	size_t bytes = 0;
	CLBlastStatusCode code;
	cl_mem temporary = NULL;
	cl_event event = NULL;
	pthread_mutex_lock(&clblast);
	code = (p->dtype == PS_F64 ? CLBlastDGemmTempBufferSize : CLBlastSGemmTempBufferSize)(
	        CLBlastLayoutRowMajor, ta, tb, m, n, k, first_of(p->a), lda, first_of(p->b), ldb, first_of(p->c), ldc,
	        &q->cl, &bytes);
	ps_status status = PS_OK;
	if (code == CLBlastSuccess && bytes > 0)
		status = ps__cl_scratch(q, 0, bytes, &temporary);
	if (code == CLBlastSuccess && status == PS_OK && p->dtype == PS_F64)
		code = CLBlastDgemmWithTempBuffer(CLBlastLayoutRowMajor, ta, tb, m, n, k, 1, cl_memory(p->a),
		                                  first_of(p->a), lda, cl_memory(p->b), first_of(p->b), ldb,
		                                  p->accumulate ? 1 : 0, cl_memory(p->c), first_of(p->c), ldc, &q->cl,
		                                  &event, temporary);
	else if (code == CLBlastSuccess && status == PS_OK)
		code = CLBlastSgemmWithTempBuffer(CLBlastLayoutRowMajor, ta, tb, m, n, k, 1, cl_memory(p->a),
		                                  first_of(p->a), lda, cl_memory(p->b), first_of(p->b), ldb,
		                                  p->accumulate ? 1 : 0, cl_memory(p->c), first_of(p->c), ldc, &q->cl,
		                                  &event, temporary);
	pthread_mutex_unlock(&clblast);
	PS_TRY(status);
	/* CLBlast passes OpenCL's codes on and has its own below. */
	return ps__cl_enqueued(q, "CLBlast's gemm", (cl_int)code, event);
}

/* The class of a product, and the side of the cube that stands for its size. */
static int class_of(const struct cl_device *d, const struct cl_product *p, int64_t *side)
{
	double volume = (double)p->m * (double)p->n * (double)p->k;
	int size = 0, largest = d->cpu ? 5 : CL_GEMM_SIZES - 1; /* a CPU's plain kernel takes long for larger ones */
	double edge = 32;
	while (size < largest && edge * edge * edge < volume) {
		edge *= 2;
		size++;
	}
	*side = (int64_t)edge * 3 / 4 + 1;
	return (size * 2 + p->accumulate) * 4 + p->trans_a * 2 + p->trans_b;
}

static void key_of(const struct cl_device *d, char *key, size_t bytes)
{
	snprintf(key, bytes, "%s\nCLBlast %s, plain gemm 2", d->identity, PS_CLBLAST_VERSION);
}

/* Memory of a check, as a matrix. */
static ps_status matrix(struct cl_queue *q, ps_buffer *buffer, ps_tensor *out, ps_dtype dtype, int64_t rows,
                        int64_t columns, uint32_t seed)
{
	cl_int error;
	int64_t count = rows * columns;
	cl_mem memory = clCreateBuffer(q->device->context, CL_MEM_READ_WRITE, (size_t)count * ps_dtype_bytes(dtype),
	                               NULL, &error);
	if (error != CL_SUCCESS)
		return ps__cl_fail(q->queue->device->info.name, "no memory for the check of CLBlast", error);
	*buffer = (ps_buffer){.device = q->queue->device, .impl = memory};
	*out = ps_tensor_make(buffer, 0, dtype, 2, (int64_t[]){rows, columns});
	struct cl_launch l = ps__cl_launch(q, CL_fill_whole, dtype);
	ps__cl_arg_memory(&l, memory);
	ps__cl_arg_long(&l, count);
	ps__cl_arg_uint(&l, seed);
	return ps__cl_run_elements(&l, count, 1, 1);
}

/* Makes one product both ways; *right tells whether they agree. A failure of CLBlast counts as being wrong. */
static ps_status compare(struct cl_queue *q, struct cl_product p, ps_buffer *buffers, cl_mem count, bool *right,
                         int64_t ns[2])
{
	ps_tensor other;
	*right = false;
	PS_TRY(matrix(q, &buffers[0], &p.a, p.dtype, p.trans_a ? p.k : p.m, p.trans_a ? p.m : p.k, 1));
	PS_TRY(matrix(q, &buffers[1], &p.b, p.dtype, p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n, 2));
	PS_TRY(matrix(q, &buffers[2], &p.c, p.dtype, p.m, p.n, 3));
	PS_TRY(matrix(q, &buffers[3], &other, p.dtype, p.m, p.n, 3));
	PS_TRY(ps__cl_settle(q));
	int64_t start = ps_clock_ns();
	struct cl_gemm_plan plan = ps__cl_own_plan(q->device);
	PS_TRY(ps__cl_own_gemm(q, &p, (ps_tensor){0}, &plan));
	PS_TRY(ps__cl_settle(q));
	int64_t middle = ps_clock_ns();
	p.c = other;
	/* A failure of CLBlast counts as being wrong, and as slow. */
	if (ns)
		ns[1] = INT64_MAX;
	if (ps__cl_clblast_gemm(q, &p) != PS_OK)
		return ps__cl_settle(q);
	PS_TRY(ps__cl_settle(q));
	if (ns) {
		ns[0] = middle - start;
		ns[1] = ps_clock_ns() - middle;
	}
	struct cl_launch l = ps__cl_launch(q, CL_compare, p.dtype);
	ps__cl_arg_memory(&l, buffers[2].impl);
	ps__cl_arg_memory(&l, buffers[3].impl);
	ps__cl_arg_long(&l, p.m * p.n);
	ps__cl_arg_memory(&l, count);
	PS_TRY(ps__cl_run_single(&l));
	cl_int wrong = 1;
	cl_event event;
	cl_int error = clEnqueueReadBuffer(q->cl, count, CL_TRUE, 0, sizeof wrong, &wrong, 0, NULL, &event);
	PS_TRY(ps__cl_enqueued(q, "the check of CLBlast", error, event));
	*right = wrong == 0;
	return PS_OK;
}

/* Sizes that no tile divides. */
static ps_status check(struct cl_queue *q, const struct cl_product *like, int64_t side, bool *right, int64_t ns[2])
{
	struct cl_product p = *like;
	ps_buffer buffers[4] = {0};
	p.m = side;
	p.n = side + 2;
	p.k = side + 4;
	ps_status status = compare(q, p, buffers, q->range, right, ns);
	ps_status end = ps__cl_settle(q);
	for (int i = 0; i < 4; i++)
		if (buffers[i].impl)
			ps__cl_release(q->device, buffers[i].impl);
	return status == PS_OK ? end : status;
}

static pthread_mutex_t verdicts = PTHREAD_MUTEX_INITIALIZER;

/* What is kept on disk. */
struct kept {
	unsigned char gemm[2][CL_GEMM_CLASSES], plain_is_faster[2];
};

/* Reads what earlier runs found, once for each device. The caller holds the mutex. */
static void recall(struct cl_device *d)
{
	char key[2048];
	unsigned char *data;
	size_t bytes;
	if (d->gemm_loaded)
		return;
	d->gemm_loaded = true;
	key_of(d, key, sizeof key);
	if (!ps__cl_cache_load(key, "gemm", &data, &bytes))
		return;
	struct kept kept;
	if (bytes == sizeof kept) {
		memcpy(&kept, data, sizeof kept);
		memcpy(d->gemm, kept.gemm, sizeof d->gemm);
		memcpy(d->plain_is_faster, kept.plain_is_faster, sizeof d->plain_is_faster);
	}
	free(data);
}

static void keep(const struct cl_device *d)
{
	char key[2048];
	struct kept kept;
	memcpy(kept.gemm, d->gemm, sizeof d->gemm);
	memcpy(kept.plain_is_faster, d->plain_is_faster, sizeof d->plain_is_faster);
	key_of(d, key, sizeof key);
	ps__cl_cache_save(key, "gemm", (const unsigned char *)&kept, sizeof kept);
}

/* Is CLBlast right for products of this class? The caller holds the mutex. */
static ps_status check_class(struct cl_queue *q, const struct cl_product *p, bool *right)
{
	struct cl_device *d = q->device;
	int64_t side;
	int class = class_of(d, p, &side);
	unsigned char *verdict = &d->gemm[p->dtype == PS_F64][class];
	if (*verdict != RIGHT && *verdict != WRONG) {
		PS_TRY(check(q, p, side, right, NULL));
		*verdict = *right ? RIGHT : WRONG;
		keep(d);
	}
	*right = *verdict == RIGHT;
	return PS_OK;
}

/*
 * Is the plain kernel much faster on this device? Asked once for each dtype and kept, and for all products alike, so
 * that a row's bits do not depend on m.
 */
static ps_status check_speed(struct cl_queue *q, const struct cl_product *p, bool *plain_is_faster)
{
	struct cl_device *d = q->device;
	unsigned char *verdict = &d->plain_is_faster[p->dtype == PS_F64];
	if (*verdict != 1 && *verdict != 2 && !d->serial) {
		struct cl_product like = *p;
		bool right;
		int64_t ns[2] = {0};
		like.trans_a = like.accumulate = false;
		like.trans_b = true;
		for (int i = 0; i < 2; i++) /* the first time compiles */
			PS_TRY(check(q, &like, d->cpu ? 320 : 1024, &right, ns));
		*verdict = ns[0] < ns[1] - ns[1] / 3 ? 2 : 1;
		keep(d);
	}
	*plain_is_faster = *verdict == 2;
	return PS_OK;
}

ps_status ps__cl_clblast_trusted(struct cl_queue *q, const struct cl_product *p, bool *right)
{
	bool slower = false;
	pthread_mutex_lock(&verdicts);
	recall(q->device);
	ps_status status = check_speed(q, p, &slower);
	*right = false;
	if (status == PS_OK && !slower)
		status = check_class(q, p, right);
	pthread_mutex_unlock(&verdicts);
	return status;
}

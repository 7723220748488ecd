/*
 * GEMM by oneDNN's matmul primitive.
 *
 * A primitive is made once for each shape, when an op is recorded or first enqueued, and kept with the device: its
 * descriptor, its memory objects, and a share in one scratchpad. A step makes nothing. oneDNN gives a row of c the same
 * bits whatever the number of rows and of threads, which tests/conformance checks for the model's shapes.
 */
#include "backends/cpu/fast/gemm.h"

#include <dnnl.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include <stdlib.h>
#include <string.h>

enum { A, B, C, BIAS, MEMORIES };

struct product {
	struct fast_product shape; /* compared as bytes, so that padding counts */
	dnnl_primitive_t primitive;
	dnnl_memory_t memory[MEMORIES], scratchpad;
	size_t scratchpad_bytes;
	struct product *next;
};

struct ps__onednn {
	dnnl_engine_t engine;
	dnnl_stream_t stream;     /* used under the device's `busy` */
	struct product *products; /* under `mutex` */
	pthread_mutex_t mutex;
	struct fast_room scratch;
};

static ps_status check(dnnl_status_t status, const char *what)
{
	if (status == dnnl_success)
		return PS_OK;
	return ps_fail(status == dnnl_out_of_memory ? PS_ENOMEM : PS_EDEVICE, "oneDNN failed (%d) in %s", (int)status,
	               what);
}

#define DNNL_TRY(call) PS_TRY(check((call), #call))

ps_status ps__onednn_create(struct ps__onednn **out)
{
	struct ps__onednn *self = calloc(1, sizeof *self);
	if (!self || pthread_mutex_init(&self->mutex, NULL)) {
		free(self);
		return ps_fail(PS_ENOMEM, "out of memory for a device");
	}
	ps_status status = check(dnnl_engine_create(&self->engine, dnnl_cpu, 0), "dnnl_engine_create");
	if (status == PS_OK)
		status = check(dnnl_stream_create(&self->stream, self->engine, dnnl_stream_default_flags),
		               "dnnl_stream_create");
	if (status != PS_OK) {
		ps__onednn_destroy(self);
		return status;
	}
	*out = self;
	return PS_OK;
}

static void product_destroy(struct product *product)
{
	for (int i = 0; i < MEMORIES; i++)
		if (product->memory[i])
			dnnl_memory_destroy(product->memory[i]);
	if (product->scratchpad)
		dnnl_memory_destroy(product->scratchpad);
	if (product->primitive)
		dnnl_primitive_destroy(product->primitive);
	free(product);
}

void ps__onednn_destroy(struct ps__onednn *self)
{
	if (!self)
		return;
	while (self->products) {
		struct product *next = self->products->next;
		product_destroy(self->products);
		self->products = next;
	}
	if (self->stream)
		dnnl_stream_destroy(self->stream);
	if (self->engine)
		dnnl_engine_destroy(self->engine);
	pthread_mutex_destroy(&self->mutex);
	free(self->scratch.memory);
	free(self);
}

static ps_status matrix(dnnl_memory_desc_t *out, bool bf16, int64_t rows, int64_t columns, int64_t stride,
                        bool transposed)
{
	const dnnl_dims_t dims = {rows, columns}, strides = {transposed ? 1 : stride, transposed ? stride : 1};
	return check(dnnl_memory_desc_init_by_strides(out, 2, dims, bf16 ? dnnl_bf16 : dnnl_f32, strides),
	             "a matrix's descriptor");
}

static ps_status make_attributes(dnnl_primitive_attr_t *out, bool accumulate)
{
	dnnl_post_ops_t operations = NULL;
	DNNL_TRY(dnnl_primitive_attr_create(out));
	DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user));
	if (!accumulate)
		return PS_OK;
	DNNL_TRY(dnnl_post_ops_create(&operations));
	ps_status status = check(dnnl_post_ops_append_sum(operations, 1), "dnnl_post_ops_append_sum");
	if (status == PS_OK)
		status = check(dnnl_primitive_attr_set_post_ops(*out, operations), "dnnl_primitive_attr_set_post_ops");
	dnnl_post_ops_destroy(operations);
	return status;
}

static ps_status make_primitive(const struct ps__onednn *self, struct product *product,
                                const dnnl_matmul_desc_t *operation, const dnnl_memory_desc_t *descriptors,
                                const_dnnl_primitive_attr_t attributes)
{
	dnnl_primitive_desc_t description;
	DNNL_TRY(dnnl_primitive_desc_create(&description, operation, attributes, self->engine, NULL));
	ps_status status = check(dnnl_primitive_create(&product->primitive, description), "dnnl_primitive_create");
	const dnnl_memory_desc_t *scratchpad = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
	if (status == PS_OK) {
		product->scratchpad_bytes = dnnl_memory_desc_get_size(scratchpad);
		status = check(dnnl_memory_create(&product->scratchpad, scratchpad, self->engine, DNNL_MEMORY_NONE),
		               "dnnl_memory_create");
	}
	dnnl_primitive_desc_destroy(description);
	for (int i = 0; i < (product->shape.bias ? MEMORIES : BIAS) && status == PS_OK; i++)
		status = check(dnnl_memory_create(&product->memory[i], &descriptors[i], self->engine, DNNL_MEMORY_NONE),
		               "dnnl_memory_create");
	return status;
}

static ps_status make(const struct ps__onednn *self, struct product *product)
{
	const struct fast_product *s = &product->shape;
	dnnl_memory_desc_t descriptors[MEMORIES];
	dnnl_matmul_desc_t operation;
	dnnl_primitive_attr_t attributes = NULL;
	PS_TRY(matrix(&descriptors[A], s->bf16, s->m, s->k, s->a_stride, s->trans_a));
	PS_TRY(matrix(&descriptors[B], s->bf16, s->k, s->n, s->b_stride, s->trans_b));
	PS_TRY(matrix(&descriptors[C], s->bf16_c, s->m, s->n, s->c_stride, false));
	PS_TRY(matrix(&descriptors[BIAS], false, 1, s->n, s->n, false));
	DNNL_TRY(dnnl_matmul_desc_init(&operation, &descriptors[A], &descriptors[B],
	                               s->bias ? &descriptors[BIAS] : NULL, &descriptors[C]));
	ps_status status = make_attributes(&attributes, s->accumulate);
	if (status == PS_OK)
		status = make_primitive(self, product, &operation, descriptors, attributes);
	if (attributes)
		dnnl_primitive_attr_destroy(attributes);
	return status;
}

/* Makes a product with the number of threads that it will run with. */
static ps_status add(const struct cpu_device *device, const struct fast_product *shape, struct product **out)
{
	struct ps__onednn *self = ((struct fast *)device->fast)->onednn;
	struct product *product = calloc(1, sizeof *product);
	if (!product)
		return ps_fail(PS_ENOMEM, "out of memory for a GEMM");
	memcpy(&product->shape, shape, sizeof *shape);
#if defined(_OPENMP)
	int threads = omp_get_max_threads();
	omp_set_num_threads(device->threads);
#endif
	ps_status status = make(self, product);
#if defined(_OPENMP)
	omp_set_num_threads(threads);
#endif
	if (status == PS_OK)
		status = ps__fast_grow(device, &self->scratch, product->scratchpad_bytes);
	if (status != PS_OK) {
		product_destroy(product);
		return ps_fail_context(status, "gemm (%lld, %lld, %lld)", (long long)shape->m, (long long)shape->n,
		                       (long long)shape->k);
	}
	product->next = self->products;
	self->products = product;
	*out = product;
	return PS_OK;
}

ps_status ps__fast_product_prepare(const struct cpu_device *device, const struct fast_product *product, void **handle)
{
	struct ps__onednn *self = ((struct fast *)device->fast)->onednn;
	ps_status status = PS_OK;
	pthread_mutex_lock(&self->mutex);
	struct product *found = self->products;
	while (found && memcmp(&found->shape, product, sizeof *product) != 0)
		found = found->next;
	if (!found)
		status = add(device, product, &found);
	pthread_mutex_unlock(&self->mutex);
	*handle = found;
	return status;
}

/* oneDNN takes its input as memory that it could write. */
static void *writable(const void *memory)
{
	union {
		const void *from;
		void *to;
	} pointer = {memory};
	return pointer.to;
}

ps_status ps__fast_product_run(const struct cpu_device *device, const struct fast_product *product, void *handle,
                               const struct fast_operands *operands)
{
	static const int names[MEMORIES] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
	const struct ps__onednn *self = ((struct fast *)device->fast)->onednn;
	const struct product *found = handle;
	void *const data[MEMORIES] = {writable(operands->a), writable(operands->b), operands->c,
	                              writable(operands->bias)};
	dnnl_exec_arg_t bindings[MEMORIES + 1];
	int count = 0;
	for (int i = 0; i < (product->bias ? MEMORIES : BIAS); i++) {
		DNNL_TRY(dnnl_memory_set_data_handle(found->memory[i], data[i]));
		bindings[count++] = (dnnl_exec_arg_t){names[i], found->memory[i]};
	}
	DNNL_TRY(dnnl_memory_set_data_handle(found->scratchpad, self->scratch.memory));
	bindings[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, found->scratchpad};
	DNNL_TRY(dnnl_primitive_execute(found->primitive, self->stream, count, bindings));
	return check(dnnl_stream_wait(self->stream), "dnnl_stream_wait");
}

/* The products of linear layers: y = x w^T forward, dx = dy w, dw (+)= dy^T x, with x (m, k), w (n, k) and y (m, n). */
#include "bench/op_set.h"

#include <inttypes.h>

enum { LAYERS = 5 };

static void add(struct bench_op_set *set, const char *section, const int64_t *mnk, const char *form, struct bench_op op)
{
	char name[64];
	op.flops = 2.0 * (double)mnk[0] * (double)mnk[1] * (double)mnk[2];
	snprintf(name, sizeof name, "%" PRId64 " x %" PRId64 " x %" PRId64 " %s", mnk[0], mnk[1], mnk[2], form);
	bench_op_set_add(set, section, name, op);
}

/* The weight (n, k) with its bias and gradient, for batches of m[count] tokens. Nothing is read that another writes. */
static void add_layer(struct bench_op_set *set, const char *section, const int64_t *m, int count, int64_t n, int64_t k)
{
	struct bench_rig *rig = &set->rig;
	ps_tensor w = BENCH_TENSOR(rig, set->factors, n, k), dw = BENCH_TENSOR(rig, set->weights, n, k);
	ps_tensor bias = BENCH_TENSOR(rig, set->values, n);
	for (int i = 0; i < count; i++) {
		ps_tensor x = BENCH_TENSOR(rig, set->values, m[i], k), dx = BENCH_TENSOR(rig, set->values, m[i], k);
		ps_tensor y = BENCH_TENSOR(rig, set->values, m[i], n), dy = BENCH_TENSOR(rig, set->values, m[i], n);
		const int64_t mnk[] = {m[i], n, k};
		add(set, section, mnk, "forward",
		    BENCH_OP(rig, gemm, 0, .a = x, .b = w, .c = y, .bias = bias, .trans_b = true));
		add(set, section, mnk, "input", BENCH_OP(rig, gemm, 0, .a = dy, .b = w, .c = dx));
		add(set, section, mnk, "weight", BENCH_OP(rig, gemm, 0, .a = dy, .b = x, .c = dw, .trans_a = true));
		add(set, section, mnk, "weight+",
		    BENCH_OP(rig, gemm, 0, .a = dy, .b = x, .c = dw, .trans_a = true, .accumulate = true));
	}
}

static void add_model(struct bench_op_set *set, const struct bench_sizes *s)
{
	int64_t batch = s->rows * s->time, micro = (s->rows + s->chunks - 1) / s->chunks * s->time;
	const int64_t m[] = {batch, micro};
	const int64_t layers[LAYERS][2] = {{3 * s->width, s->width},
	                                   {s->width, s->width},
	                                   {s->hidden, s->width},
	                                   {s->width, s->hidden},
	                                   {s->vocabulary, s->width}};
	for (int i = 0; i < LAYERS; i++) {
		bool again = false;
		for (int j = 0; j < i; j++)
			again |= layers[i][0] == layers[j][0] && layers[i][1] == layers[j][1];
		if (!again)
			add_layer(set, s->name, m, micro == batch ? 1 : 2, layers[i][0], layers[i][1]);
	}
}

ps_status bench_gemm(struct bench_report *report, const struct bench_device *device, const struct bench_sizes *sizes,
                     int count, const struct bench_run *run)
{
	return bench_op_set_run(report, device, add_model, sizes, count, run);
}

/*
 * Self-attention. The first kernel of each direction has a group for a position of a head, (position, head, row), and
 * writes (rows, heads, time, time); the others have a work-item for SPAN vectors of features of a position, (position *
 * spans + span, row * heads + head), and add up over positions in ascending order.
 */

static real dot_product(__global const real *a, __global const real *b, int features)
{
	realv sums[4] = {(realv)(0), (realv)(0), (realv)(0), (realv)(0)};
	int f = 0;
	for (; f + 4 * VEC <= features; f += 4 * VEC)
#pragma unroll
		for (int i = 0; i < 4; i++)
			sums[i] = MAD(LOAD(a, f + i * VEC), LOAD(b, f + i * VEC), sums[i]);
	for (; f + VEC <= features; f += VEC)
		sums[0] = MAD(LOAD(a, f), LOAD(b, f), sums[0]);
	real total = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
	for (; f < features; f++)
		total = MAD(a[f], b[f], total);
	return total;
}

/* probs = softmax of the scores; weights, if dropping, = dropout(probs). */
ROW_KERNEL void ps_attention_probs(IN(real, qkv), OUT(real, probs), __global real *weights, int heads, int time,
                                   int width, int causal, real scale, DROP)
{
	__local real scratch[GROUP];
	int me = get_local_id(0), i = (int)get_group_id(0), head = (int)get_group_id(1);
	long row = (long)get_group_id(2);
	int features = width / heads, seen = causal ? i + 1 : time;
	long place = ((long)head * time + i) * time, at = row * heads * time * time + place;
	__global const real *start = qkv_buffer + qkv_at + row * time * 3 * width + head * features;
	__global const real *q = start + (long)i * 3 * width, *k = start + width;
	__global real *p = probs_buffer + probs_at + at;
	__global real *w = weights + at;
	real most = -INFINITY;
	for (int j = me; j < seen; j += GROUP) {
		real score = dot_product(q, k + (long)j * 3 * width, features) * scale;
		p[j] = score;
		most = fmax(most, score);
	}
	barrier(CLK_GLOBAL_MEM_FENCE);
	most = group_most(scratch, most);
	realv sums = (realv)(0);
	for (int j = me * VEC; j < seen; j += GROUP * VEC) {
		realv e = exp(load_some(p, j, seen, -INFINITY) - most);
		sums += e;
		store_some(e, p, j, seen);
	}
	real sum = group_sum(scratch, sum_of(sums));
	/* Past what is seen all is 0. Each work-item goes on with the elements that it has written. */
	for (int j = me * VEC; j < time; j += GROUP * VEC)
		store_some(load_some(p, j, seen, 0) / sum, p, j, time);
	if (!dropping)
		return;
	barrier(CLK_GLOBAL_MEM_FENCE);
	uint words[CHUNK];
	int before = (int)(place % 4);
	for (int first = me * CHUNK - before; first < time; first += GROUP * CHUNK) {
		words_of_blocks(words, (uint)((place + first) / 4), first_row + (uint)row, DROP_PLACE);
		for (int j = max(first, 0); j < first + CHUNK && j < time; j++)
			w[j] = words[j - first] >= threshold ? p[j] * factor : (real)0;
	}
}

/*
 * SPAN vectors of the sum of factors[p * stride] * from[p * width] over p from `first` to `last`. The numbers of
 * features that do not fill the vectors go the long way.
 */
static void weighted_sum(__global const real *factors, long stride, __global const real *from, long width, int first,
                         int last, __global real *to, int f, int features)
{
	realv sums[SPAN];
#pragma unroll
	for (int s = 0; s < SPAN; s++)
		sums[s] = (realv)(0);
	if (f + SPAN * VEC <= features) {
		for (int p = first; p < last; p++) {
			realv factor = (realv)(factors[p * stride]);
#pragma unroll
			for (int s = 0; s < SPAN; s++)
				sums[s] = MAD(LOAD(from + p * width, f + s * VEC), factor, sums[s]);
		}
#pragma unroll
		for (int s = 0; s < SPAN; s++)
			STORE(sums[s], to, f + s * VEC);
		return;
	}
	for (int s = 0; s < SPAN && f + s * VEC < features; s++) {
		realv sum = (realv)(0);
		for (int p = first; p < last; p++)
			sum = MAD(load_some(from + p * width, f + s * VEC, features, 0), (realv)(factors[p * stride]),
			          sum);
		store_some(sum, to, f + s * VEC, features);
	}
}

#define SPANS(features) (((features) + SPAN * VEC - 1) / (SPAN * VEC))

/*
 * to[position] = sum over `other` of matrix[position][other] * from[other]. `from` and `to` are parts of rows of
 * from_width and to_width; with a causal mask only the others up to the position count.
 */
ELEMENT_KERNEL void ps_attention_rows(IN(real, matrix), IN(real, from), OUT(real, to), int heads, int time,
                                      int features, int from_width, int to_width, int causal)
{
	int x = (int)get_global_id(0), plane = (int)get_global_id(1), i = x / SPANS(features);
	if (i >= time)
		return;
	long row = plane / heads, column = (long)(plane % heads) * features;
	__global const real *m = matrix_buffer + matrix_at + ((long)plane * time + i) * time;
	__global const real *from = from_buffer + from_at + row * time * from_width + column;
	__global real *to = to_buffer + to_at + (row * time + i) * to_width + column;
	weighted_sum(m, 1, from, from_width, 0, causal ? i + 1 : time, to, x % SPANS(features) * SPAN * VEC, features);
}

/* The same with the matrix transposed: to[other] = sum over positions of matrix[position][other] * from[position]. */
ELEMENT_KERNEL void ps_attention_columns(IN(real, matrix), IN(real, from), OUT(real, to), int heads, int time,
                                         int features, int from_width, int to_width, int causal)
{
	int x = (int)get_global_id(0), plane = (int)get_global_id(1), j = x / SPANS(features);
	if (j >= time)
		return;
	long row = plane / heads, column = (long)(plane % heads) * features;
	__global const real *m = matrix_buffer + matrix_at + (long)plane * time * time + j;
	__global const real *from = from_buffer + from_at + row * time * from_width + column;
	__global real *to = to_buffer + to_at + (row * time + j) * to_width + column;
	weighted_sum(m, time, from, from_width, causal ? j : 0, time, to, x % SPANS(features) * SPAN * VEC, features);
}

/* With m the mask's factors and P = probs: weights = P m, dscores = P (dP - sum of P dP) scale, dP = m (dout v^T). */
ROW_KERNEL void ps_attention_dscores(IN(real, qkv), IN(real, probs), IN(real, dout), __global real *weights,
                                     __global real *dscores, int heads, int time, int width, int causal, real scale,
                                     DROP)
{
	__local real scratch[GROUP];
	int me = get_local_id(0), i = (int)get_group_id(0), head = (int)get_group_id(1);
	long row = (long)get_group_id(2);
	int features = width / heads, seen = causal ? i + 1 : time;
	long place = ((long)head * time + i) * time, at = row * heads * time * time + place;
	__global const real *v = qkv_buffer + qkv_at + row * time * 3 * width + 2 * width + head * features;
	__global const real *g = dout_buffer + dout_at + (row * time + i) * width + head * features;
	__global const real *p = probs_buffer + probs_at + at;
	__global real *w = weights + at, *ds = dscores + at;
	for (int j = me; j < seen; j += GROUP)
		ds[j] = dot_product(g, v + (long)j * 3 * width, features);
	barrier(CLK_GLOBAL_MEM_FENCE);
	real inner = 0;
	uint words[CHUNK];
	int before = (int)(place % 4);
	for (int first = me * CHUNK - before; first < seen; first += GROUP * CHUNK) {
		if (dropping)
			words_of_blocks(words, (uint)((place + first) / 4), first_row + (uint)row, DROP_PLACE);
		for (int j = max(first, 0); j < first + CHUNK && j < seen; j++) {
			if (dropping) {
				bool kept = words[j - first] >= threshold;
				w[j] = kept ? p[j] * factor : (real)0;
				ds[j] = kept ? ds[j] * factor : (real)0;
			}
			inner = MAD(p[j], ds[j], inner);
		}
	}
	inner = group_sum(scratch, inner);
	for (int first = me * CHUNK - before; first < seen; first += GROUP * CHUNK)
		for (int j = max(first, 0); j < first + CHUNK && j < seen; j++)
			ds[j] = p[j] * (ds[j] - inner) * scale;
}

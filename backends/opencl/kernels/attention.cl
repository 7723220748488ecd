/*
 * Self-attention. The first kernel of each direction has a group for a position of a head, (position, head, row), and
 * writes (rows, heads, time, time); the others have a work-item for a vector of features, (features, position,
 * row * heads + head), and add up over positions in ascending order.
 */

static real dot_product(__global const real *a, __global const real *b, int features)
{
	realv sum = (realv)(0);
	int f = 0;
	for (; f + VEC <= features; f += VEC)
		sum = MAD(LOAD(a, f), LOAD(b, f), sum);
	real total = sum_of(sum);
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
	real most = -INFINITY, sum = 0;
	for (int j = me; j < seen; j += GROUP) {
		real score = dot_product(q, k + (long)j * 3 * width, features) * scale;
		p[j] = score;
		most = fmax(most, score);
	}
	most = group_most(scratch, most);
	for (int j = me; j < seen; j += GROUP) {
		real e = exp(p[j] - most);
		p[j] = e;
		sum += e;
	}
	sum = group_sum(scratch, sum);
	for (int j = me; j < seen; j += GROUP)
		p[j] /= sum;
	barrier(CLK_GLOBAL_MEM_FENCE);
	for (int first = me * CHUNK; first < time; first += GROUP * CHUNK) {
		uint words[CHUNK];
		if (dropping)
			words_of(words, place + first, first_row + (uint)row, DROP_PLACE);
		for (int c = 0; c < CHUNK && first + c < time; c++) {
			int j = first + c;
			real v = j < seen ? p[j] : (real)0;
			p[j] = v;
			if (dropping)
				w[j] = words[c] >= threshold ? v * factor : (real)0;
		}
	}
}

/*
 * to[position] = sum over `other` of matrix[position][other] * from[other]. `from` and `to` are parts of rows of
 * from_width and to_width; with a causal mask only the others up to the position count.
 */
ELEMENT_KERNEL void ps_attention_rows(IN(real, matrix), IN(real, from), OUT(real, to), int heads, int time,
                                      int features, int from_width, int to_width, int causal)
{
	int f = (int)get_global_id(0) * VEC, i = (int)get_global_id(1), plane = (int)get_global_id(2);
	if (f >= features)
		return;
	long row = plane / heads, column = (long)(plane % heads) * features;
	__global const real *m = matrix_buffer + matrix_at + ((long)plane * time + i) * time;
	__global const real *from = from_buffer + from_at + row * time * from_width + column;
	__global real *to = to_buffer + to_at + (row * time + i) * to_width + column;
	int seen = causal ? i + 1 : time;
	realv sum = (realv)(0);
	for (int j = 0; j < seen; j++)
		sum = MAD(load_some(from + (long)j * from_width, f, features, 0), (realv)(m[j]), sum);
	store_some(sum, to, f, features);
}

/* The same with the matrix transposed: to[other] = sum over positions of matrix[position][other] * from[position]. */
ELEMENT_KERNEL void ps_attention_columns(IN(real, matrix), IN(real, from), OUT(real, to), int heads, int time,
                                         int features, int from_width, int to_width, int causal)
{
	int f = (int)get_global_id(0) * VEC, j = (int)get_global_id(1), plane = (int)get_global_id(2);
	if (f >= features)
		return;
	long row = plane / heads, column = (long)(plane % heads) * features;
	__global const real *m = matrix_buffer + matrix_at + (long)plane * time * time + j;
	__global const real *from = from_buffer + from_at + row * time * from_width + column;
	__global real *to = to_buffer + to_at + (row * time + j) * to_width + column;
	realv sum = (realv)(0);
	for (int i = causal ? j : 0; i < time; i++)
		sum = MAD(load_some(from + (long)i * from_width, f, features, 0), (realv)(m[(long)i * time]), sum);
	store_some(sum, to, f, features);
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
	for (int first = me * CHUNK; first < seen; first += GROUP * CHUNK) {
		uint words[CHUNK];
		if (dropping)
			words_of(words, place + first, first_row + (uint)row, DROP_PLACE);
		for (int c = 0; c < CHUNK && first + c < seen; c++) {
			int j = first + c;
			if (dropping) {
				bool kept = words[c] >= threshold;
				w[j] = kept ? p[j] * factor : (real)0;
				ds[j] = kept ? ds[j] * factor : (real)0;
			}
			inner = MAD(p[j], ds[j], inner);
		}
	}
	inner = group_sum(scratch, inner);
	for (int first = me * CHUNK; first < seen; first += GROUP * CHUNK)
		for (int j = first; j < first + CHUNK && j < seen; j++)
			ds[j] = p[j] * (ds[j] - inner) * scale;
}

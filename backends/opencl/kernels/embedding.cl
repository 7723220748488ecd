/* Embedding with positions, and the check of token and target numbers. */

/*
 * fault[0] = the index of the first number out of [0, bound), or NO_FAULT, fault[1] = that number. The kernels that
 * follow do nothing when there is one.
 */
ROW_KERNEL void ps_check_range(IN(int, tokens), int count, int bound, __global int *fault)
{
	USE_IN(int, tokens);
	__local int scratch[GROUP];
	int me = get_local_id(0), worst = NO_FAULT;
	for (int i = me; i < count; i += GROUP)
		if (worst == NO_FAULT && (tokens[i] < 0 || tokens[i] >= bound))
			worst = i;
	scratch[me] = worst;
	barrier(CLK_LOCAL_MEM_FENCE);
	if (me != 0)
		return;
	for (int k = 1; k < GROUP; k++)
		worst = min(worst, scratch[k]);
	fault[0] = worst;
	fault[1] = worst == NO_FAULT ? 0 : tokens[worst];
}

/* A work-item takes CHUNK features of one position; the second dimension is row * time + position. */
ELEMENT_KERNEL void ps_embedding_fwd(IN(int, tokens), IN(real, weight), IN(real, positions), OUT(real, y), long time,
                                     long width, long weight_stride, long position_stride, real scale,
                                     __global const int *fault, DROP)
{
	long first = (long)get_global_id(0) * CHUNK, n = (long)get_global_id(1), t = n % time;
	if (first >= width || fault[0] != NO_FAULT)
		return;
	__global const real *w = weight_buffer + weight_at + tokens_buffer[tokens_at + n] * weight_stride;
	__global const real *p = positions_buffer + positions_at + t * position_stride;
	__global real *y = y_buffer + y_at + n * width;
	uint words[CHUNK];
	if (dropping)
		words_of(words, t * width + first, first_row + (uint)(n / time), DROP_PLACE);
	for (int k = 0; k < CHUNK; k += VEC) {
		long i = first + k;
		if (i >= width)
			return;
		realv v = MAD(load_some(w, i, width, 0), (realv)(scale), load_some(p, i, width, 0));
		if (dropping)
			v = drop(v, words + k, threshold, factor);
		store_some(v, y, i, width);
	}
}

/* chain[2 i] = 1 when token i did not occur before, chain[2 i + 1] = where it occurs next, -1 for nowhere. */
ELEMENT_KERNEL void ps_embedding_chain(IN(int, tokens), int count, __global int *chain)
{
	USE_IN(int, tokens);
	int i = (int)get_global_id(0);
	if (i >= count)
		return;
	int first = 1, next = -1;
	for (int k = 0; k < i && first; k++)
		first = tokens[k] != tokens[i];
	for (int k = i + 1; k < count && next < 0; k++)
		if (tokens[k] == tokens[i])
			next = k;
	chain[2 * i] = first;
	chain[2 * i + 1] = next;
}

/* The first occurrence of a token adds up all of them, in ascending order, for CHUNK features. */
ELEMENT_KERNEL void ps_embedding_bwd_weight(IN(int, tokens), IN(real, dy), OUT(real, dweight), long time, long width,
                                            real scale, int accumulate, __global const int *chain,
                                            __global const int *fault, DROP)
{
	long first = (long)get_global_id(0) * CHUNK;
	int n = (int)get_global_id(1);
	if (first >= width || fault[0] != NO_FAULT || !chain[2 * n])
		return;
	__global real *dw = dweight_buffer + dweight_at + tokens_buffer[tokens_at + n] * width;
	realv sums[CHUNK / VEC];
	for (int k = 0; k < CHUNK / VEC; k++)
		sums[k] = accumulate ? load_some(dw, first + k * VEC, width, 0) : (realv)(0);
	for (int at = n; at >= 0; at = chain[2 * at + 1]) {
		__global const real *g = dy_buffer + dy_at + at * width;
		uint words[CHUNK];
		if (dropping)
			words_of(words, at % time * width + first, first_row + (uint)(at / time), DROP_PLACE);
		for (int k = 0; k < CHUNK / VEC; k++) {
			realv v = load_some(g, first + k * VEC, width, 0);
			if (dropping)
				v = drop(v, words + k * VEC, threshold, factor);
			sums[k] = MAD(v, (realv)(scale), sums[k]);
		}
	}
	for (int k = 0; k < CHUNK / VEC; k++)
		if (first + k * VEC < width)
			store_some(sums[k], dw, first + k * VEC, width);
}

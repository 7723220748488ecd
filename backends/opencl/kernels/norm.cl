/* LayerNorm, alone and with the dropout and the residual before it. A group takes a row. */

static void normalize(__global const real *x, __global const real *gamma, __global const real *beta, __global real *y,
                      __global real *mean, __global real *rstd, long columns, real eps, __local real *scratch)
{
	int me = get_local_id(0);
	realv sum = (realv)(0);
	for (long j = (long)me * VEC; j < columns; j += GROUP * VEC)
		sum += load_some(x, j, columns, 0);
	real average = group_sum(scratch, sum_of(sum)) / (real)columns;
	sum = (realv)(0);
	for (long j = (long)me * VEC; j < columns; j += GROUP * VEC) {
		realv off = load_some(x, j, columns, average) - average;
		sum = MAD(off, off, sum);
	}
	real variance = group_sum(scratch, sum_of(sum)) / (real)columns;
	real scale = (real)1 / sqrt(variance + eps);
	for (long j = (long)me * VEC; j < columns; j += GROUP * VEC) {
		realv v = (load_some(x, j, columns, 0) - average) * scale;
		store_some(MAD(v, load_some(gamma, j, columns, 0), load_some(beta, j, columns, 0)), y, j, columns);
	}
	if (me == 0) {
		*mean = average;
		*rstd = scale;
	}
}

ROW_KERNEL void ps_layernorm_fwd(IN(real, x), IN(real, gamma), IN(real, beta), OUT(real, y), OUT(real, mean),
                                 OUT(real, rstd), long columns, real eps)
{
	__local real scratch[GROUP];
	long row = (long)get_group_id(0);
	normalize(x_buffer + x_at + row * columns, gamma_buffer + gamma_at, beta_buffer + beta_at,
	          y_buffer + y_at + row * columns, mean_buffer + mean_at + row, rstd_buffer + rstd_at + row, columns,
	          eps, scratch);
}

/* `time` is the number of rows of a sample. */
ROW_KERNEL void ps_dropout_add_layernorm_fwd(IN(real, z), IN(real, residual), IN(real, gamma), IN(real, beta),
                                             OUT(real, sum), OUT(real, y), OUT(real, mean), OUT(real, rstd),
                                             long columns, long time, real eps, DROP)
{
	__local real scratch[GROUP];
	long row = (long)get_group_id(0);
	__global const real *z = z_buffer + z_at + row * columns;
	__global const real *residual = residual_buffer + residual_at + row * columns;
	__global real *sum = sum_buffer + sum_at + row * columns;
	for (long first = (long)get_local_id(0) * CHUNK; first < columns; first += GROUP * CHUNK) {
		uint words[CHUNK];
		if (dropping)
			words_of(words, row % time * columns + first, first_row + (uint)(row / time), DROP_PLACE);
		for (int k = 0; k < CHUNK && first + k < columns; k += VEC) {
			realv v = load_some(z, first + k, columns, 0);
			if (dropping)
				v = drop(v, words + k, threshold, factor);
			store_some(load_some(residual, first + k, columns, 0) + v, sum, first + k, columns);
		}
	}
	barrier(CLK_GLOBAL_MEM_FENCE);
	normalize(sum, gamma_buffer + gamma_at, beta_buffer + beta_at, y_buffer + y_at + row * columns,
	          mean_buffer + mean_at + row, rstd_buffer + rstd_at + row, columns, eps, scratch);
}

/* The two averages that a row's input gradient needs, times the row's length. */
static void gradient_sums(__global const real *dy, __global const real *x, __global const real *gamma, real mean,
                          real rstd, long columns, __local real *scratch, real *sum_g, real *sum_gx)
{
	realv g_all = (realv)(0), gx_all = (realv)(0);
	for (long j = (long)get_local_id(0) * VEC; j < columns; j += GROUP * VEC) {
		realv g = load_some(dy, j, columns, 0) * load_some(gamma, j, columns, 0);
		realv hat = (load_some(x, j, columns, 0) - mean) * rstd;
		g_all += g;
		gx_all = MAD(g, hat, gx_all);
	}
	*sum_g = group_sum(scratch, sum_of(g_all));
	*sum_gx = group_sum(scratch, sum_of(gx_all));
}

static realv input_gradient(realv dy, realv x, realv gamma, real mean, real rstd, real avg_g, real avg_gx)
{
	realv hat = (x - mean) * rstd;
	return (dy * gamma - avg_g - hat * avg_gx) * rstd;
}

ROW_KERNEL void ps_layernorm_bwd_input(IN(real, dy), IN(real, x), IN(real, mean), IN(real, rstd), IN(real, gamma),
                                       OUT(real, dx), long columns)
{
	__local real scratch[GROUP];
	long row = (long)get_group_id(0);
	__global const real *dy = dy_buffer + dy_at + row * columns;
	__global const real *x = x_buffer + x_at + row * columns;
	USE_IN(real, gamma);
	__global real *dx = dx_buffer + dx_at + row * columns;
	real mean = mean_buffer[mean_at + row], rstd = rstd_buffer[rstd_at + row], sum_g, sum_gx;
	gradient_sums(dy, x, gamma, mean, rstd, columns, scratch, &sum_g, &sum_gx);
	real avg_g = sum_g / (real)columns, avg_gx = sum_gx / (real)columns;
	for (long j = (long)get_local_id(0) * VEC; j < columns; j += GROUP * VEC)
		store_some(input_gradient(load_some(dy, j, columns, 0), load_some(x, j, columns, 0),
		                          load_some(gamma, j, columns, 0), mean, rstd, avg_g, avg_gx),
		           dx, j, columns);
}

ROW_KERNEL void ps_dropout_add_layernorm_bwd_input(IN(real, dy), IN(real, x), IN(real, mean), IN(real, rstd),
                                                   IN(real, gamma), OUT(real, dresidual), OUT(real, dz), long columns,
                                                   long time, DROP)
{
	__local real scratch[GROUP];
	long row = (long)get_group_id(0);
	__global const real *dy = dy_buffer + dy_at + row * columns;
	__global const real *x = x_buffer + x_at + row * columns;
	USE_IN(real, gamma);
	__global real *dresidual = dresidual_buffer + dresidual_at + row * columns;
	__global real *dz = dz_buffer + dz_at + row * columns;
	real mean = mean_buffer[mean_at + row], rstd = rstd_buffer[rstd_at + row], sum_g, sum_gx;
	gradient_sums(dy, x, gamma, mean, rstd, columns, scratch, &sum_g, &sum_gx);
	real avg_g = sum_g / (real)columns, avg_gx = sum_gx / (real)columns;
	/* dresidual may lie over dy, which others have read above. */
	barrier(CLK_GLOBAL_MEM_FENCE);
	for (long first = (long)get_local_id(0) * CHUNK; first < columns; first += GROUP * CHUNK) {
		uint words[CHUNK];
		if (dropping)
			words_of(words, row % time * columns + first, first_row + (uint)(row / time), DROP_PLACE);
		for (int k = 0; k < CHUNK && first + k < columns; k += VEC) {
			long j = first + k;
			realv v = input_gradient(load_some(dy, j, columns, 0), load_some(x, j, columns, 0),
			                         load_some(gamma, j, columns, 0), mean, rstd, avg_g, avg_gx);
			store_some(v, dresidual, j, columns);
			if (dropping)
				v = drop(v, words + k, threshold, factor);
			store_some(v, dz, j, columns);
		}
	}
}

/*
 * Sums down all rows, in ascending order. A work-item takes SPAN vectors of columns, those of a group side by side, so
 * that a CPU reads some cache lines of each row and other devices read neighbours by neighbours.
 */
#define SPAN_COLUMN(i) (((long)get_group_id(0) * SPAN * GROUP + (i)*GROUP + (long)get_local_id(0)) * VEC)

ROW_KERNEL void ps_layernorm_bwd_weight(IN(real, dy), IN(real, x), IN(real, mean), IN(real, rstd), OUT(real, dgamma),
                                        OUT(real, dbeta), long rows, long columns, int accumulate)
{
	USE_IN(real, mean);
	USE_IN(real, rstd);
	USE_OUT(real, dgamma);
	USE_OUT(real, dbeta);
	realv gamma[SPAN], beta[SPAN];
	for (int i = 0; i < SPAN; i++) {
		gamma[i] = accumulate ? load_some(dgamma, SPAN_COLUMN(i), columns, 0) : (realv)(0);
		beta[i] = accumulate ? load_some(dbeta, SPAN_COLUMN(i), columns, 0) : (realv)(0);
	}
	__global const real *dy = dy_buffer + dy_at, *x = x_buffer + x_at;
	bool whole = SPAN_COLUMN(SPAN - 1) + VEC <= columns;
	for (long r = 0; r < rows; r++, dy += columns, x += columns) {
		real average = mean[r], scale = rstd[r];
#pragma unroll
		for (int i = 0; i < SPAN; i++) {
			realv g = whole ? LOAD(dy, SPAN_COLUMN(i)) : load_some(dy, SPAN_COLUMN(i), columns, 0);
			realv v = whole ? LOAD(x, SPAN_COLUMN(i)) : load_some(x, SPAN_COLUMN(i), columns, 0);
			gamma[i] = MAD(g, (v - average) * scale, gamma[i]);
			beta[i] += g;
		}
	}
	for (int i = 0; i < SPAN; i++) {
		store_some(gamma[i], dgamma, SPAN_COLUMN(i), columns);
		store_some(beta[i], dbeta, SPAN_COLUMN(i), columns);
	}
}

/* The same for one sum. On a CPU the columns of a work-item are many, and lie in its first cache. */
#ifdef ON_CPU
#define MOST_SPAN 64
#else
#define MOST_SPAN 1
#endif

ROW_KERNEL void ps_column_sum(IN(real, x), OUT(real, y), long rows, long columns, int accumulate, int span)
{
	enum { AT_ONCE = 4 };
	USE_OUT(real, y);
	realv sums[MOST_SPAN];
	long first = ((long)get_group_id(0) * span * GROUP + (long)get_local_id(0)) * VEC, r = 0;
	int vectors = (int)min((long)span, (columns - first + GROUP * VEC - 1) / (GROUP * VEC));
	int whole = (int)max(0L, min((long)span, (columns - first) / (GROUP * VEC)));
	for (int i = 0; i < vectors; i++)
		sums[i] = accumulate ? load_some(y, first + i * GROUP * VEC, columns, 0) : (realv)(0);
	__global const real *x = x_buffer + x_at + first;
	for (; r + AT_ONCE <= rows; r += AT_ONCE, x += AT_ONCE * columns)
		for (int i = 0; i < whole; i++) {
			realv sum = sums[i];
#pragma unroll
			for (int k = 0; k < AT_ONCE; k++)
				sum += LOAD(x, k * columns + i * GROUP * VEC);
			sums[i] = sum;
		}
	for (; r < rows; r++, x += columns)
		for (int i = 0; i < whole; i++)
			sums[i] += LOAD(x, i * GROUP * VEC);
	x = x_buffer + x_at;
	for (int i = whole; i < vectors; i++)
		for (r = 0; r < rows; r++)
			sums[i] += load_some(x + r * columns, first + i * GROUP * VEC, columns, 0);
	for (int i = 0; i < vectors; i++)
		store_some(sums[i], y, first + i * GROUP * VEC, columns);
}

/*
 * The plain matrix product: what CLBlast's results are checked against, and what runs where they are wrong. A
 * work-item makes TILE rows of VEC columns, each element one sum over k in ascending order, so that a row's bits do
 * not depend on m. The first dimension counts tiles of rows and the second vectors of columns, so that neighbours on a
 * CPU share their columns of b.
 */
#define TILE 8

static realv load_b(__global const real *b, long p, long column, long n, long stride, int trans)
{
	if (!trans)
		return load_some(b + p * stride, column, n, 0);
	real part[VEC];
	for (int k = 0; k < VEC; k++)
		part[k] = column + k < n ? b[(column + k) * stride + p] : (real)0;
	return LOAD(part, 0);
}

ELEMENT_KERNEL void ps_gemm(IN(real, a), IN(real, b), OUT(real, c), IN(real, bias), long m, long n, long k,
                            long a_stride, long b_stride, long c_stride, int trans_a, int trans_b, int accumulate,
                            int with_bias)
{
	long row = (long)get_global_id(0) * TILE, column = (long)get_global_id(1) * VEC;
	if (row >= m)
		return;
	int rows = (int)min((long)TILE, m - row);
	__global const real *a = a_buffer + a_at + row * (trans_a ? 1 : a_stride);
	__global const real *b = b_buffer + b_at;
	__global real *c = c_buffer + c_at + row * c_stride;
	long down = trans_a ? 1 : a_stride, along = trans_a ? a_stride : 1;
	realv sum[TILE];
	for (int i = 0; i < TILE; i++)
		sum[i] = (realv)(0);
	if (rows == TILE && column + VEC <= n && !trans_b)
		for (long p = 0; p < k; p++) {
			realv v = LOAD(b + p * b_stride, column);
			for (int i = 0; i < TILE; i++)
				sum[i] = MAD((realv)(a[i * down + p * along]), v, sum[i]);
		}
	else
		for (long p = 0; p < k; p++) {
			realv v = load_b(b, p, column, n, b_stride, trans_b);
			for (int i = 0; i < rows; i++)
				sum[i] = MAD((realv)(a[i * down + p * along]), v, sum[i]);
		}
	realv shift = (realv)(0);
	if (with_bias)
		shift = load_some(bias_buffer + bias_at, column, n, 0);
	for (int i = 0; i < rows; i++) {
		realv v = sum[i] + shift;
		if (accumulate)
			v += load_some(c + i * c_stride, column, n, 0);
		store_some(v, c + i * c_stride, column, n);
	}
}

/* c (+)= bias on every row: what goes before a product that adds to c. The second dimension is the row. */
ELEMENT_KERNEL void ps_bias_rows(OUT(real, c), IN(real, bias), long n, long c_stride, int accumulate)
{
	long column = (long)get_global_id(0) * VEC;
	if (column >= n)
		return;
	__global real *c = c_buffer + c_at + (long)get_global_id(1) * c_stride;
	realv v = load_some(bias_buffer + bias_at, column, n, 0);
	if (accumulate)
		v += load_some(c, column, n, 0);
	store_some(v, c, column, n);
}

/* Whole numbers from -3 to 3, whose products add up exactly: what a product is checked with. */
ELEMENT_KERNEL void ps_fill_whole(__global real *x, long count, uint seed)
{
	long i = (long)get_global_id(0);
	if (i < count)
		x[i] = (real)((int)((((uint)i * 2654435761U + seed) >> 13) % 7) - 3);
}

/* different[0] counts elements that are not the same, a NaN counted as one. */
SINGLE_KERNEL void ps_compare(__global const real *x, __global const real *y, long count, __global int *different)
{
	int wrong = 0;
	for (long i = 0; i < count; i++)
		wrong += !(x[i] == y[i]);
	different[0] = wrong;
}

/*
 * The plain matrix product: what CLBlast's results are checked against, and what runs where they are wrong or slower.
 *
 * Both factors are packed first, so that the product reads memory in order: a in tiles of TILE rows, b in panels of VEC
 * columns, each running along k, padded with zeros. A work-item multiplies a tile with a panel. Each element of c is
 * one sum over k in ascending order, so that a row's bits do not depend on m.
 */
#define TILE 8

/* packed[tile][p][i] = op(a)[tile * TILE + i][p]. The second dimension is the tile. */
ELEMENT_KERNEL void ps_pack_rows(IN(real, a), __global real *packed, long m, long k, long stride, int trans)
{
	long p = (long)get_global_id(0), tile = (long)get_global_id(1);
	if (p >= k)
		return;
	__global const real *a = a_buffer + a_at;
	__global real *to = packed + (tile * k + p) * TILE;
	for (int i = 0; i < TILE; i++) {
		long row = tile * TILE + i;
		to[i] = row < m ? a[trans ? p * stride + row : row * stride + p] : (real)0;
	}
}

/* packed[panel][p][i] = op(b)[p][first + panel * VEC + i]: VEC steps of p. The second dimension is the panel. */
ELEMENT_KERNEL void ps_pack_columns(IN(real, b), __global real *packed, long n, long k, long stride, int trans,
                                    long first)
{
	long start = (long)get_global_id(0) * VEC, panel = (long)get_global_id(1), column = first + panel * VEC;
	if (start >= k)
		return;
	__global const real *b = b_buffer + b_at;
	__global real *to = packed + (panel * k + start) * VEC;
	int steps = (int)min((long)VEC, k - start);
	if (!trans) {
		for (int p = 0; p < steps; p++)
			STORE(load_some(b + (start + p) * stride, column, n, 0), to, p * VEC);
		return;
	}
	real block[VEC][VEC];
	for (int i = 0; i < VEC; i++) {
		realv v = (realv)(0);
		if (column + i < n)
			v = load_some(b + (column + i) * stride, start, k, 0);
		STORE(v, block[i], 0);
	}
	for (int p = 0; p < steps; p++) {
		real line[VEC];
		for (int i = 0; i < VEC; i++)
			line[i] = block[i][p];
		STORE(LOAD(line, 0), to, p * VEC);
	}
}

/* The first dimension counts tiles and the second panels, so that neighbours on a CPU share a panel of b. */
ELEMENT_KERNEL void ps_gemm(__global const real *tiles, __global const real *panels, OUT(real, c), IN(real, bias),
                            long m, long n, long k, long c_stride, long first, int accumulate, int with_bias)
{
	long row = (long)get_global_id(0) * TILE, column = first + (long)get_global_id(1) * VEC;
	if (row >= m)
		return;
	__global const real *a = tiles + row * k;
	__global const real *b = panels + (long)get_global_id(1) * VEC * k;
	__global real *c = c_buffer + c_at + row * c_stride;
	realv sum[TILE];
	for (int i = 0; i < TILE; i++)
		sum[i] = (realv)(0);
	for (long p = 0; p < k; p++, a += TILE, b += VEC) {
		realv v = LOAD(b, 0);
		for (int i = 0; i < TILE; i++)
			sum[i] = MAD((realv)(a[i]), v, sum[i]);
	}
	realv shift = (realv)(0);
	if (with_bias)
		shift = load_some(bias_buffer + bias_at, column, n, 0);
	int rows = (int)min((long)TILE, m - row);
	for (int i = 0; i < TILE; i++) {
		if (i >= rows)
			break;
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

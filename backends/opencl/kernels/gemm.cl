/*
 * Our own matrix product, built with the parameters of one form at a time (gemm_forms.c): either PANELS, for CPUs, or
 * TILES, for devices with local memory and many small work-items.
 *
 * In both each element of c starts from what it is added to (0, the bias, what c holds) and takes its k products one
 * after the other in ascending order, each with one rounding where the device has a fast fma. So its bits depend
 * neither on m nor on the form.
 */
#ifdef PANELS
/*
 * Host parameters: ROWS of c and COLUMNS vectors of VEC columns that a work-item keeps in registers.
 *
 * a is packed first, in tiles of ROWS rows: for each block of `depth` steps along k, tile by tile, ROWS neighbours for
 * each step. A work-item then has a block of c of its own. For each block of steps it packs what it needs of b into
 * its local memory, in panels of WIDTH columns, and multiplies each panel with all tiles of its rows. A panel stays in
 * the first cache, the block of a and the packed block of b in the second.
 */
#define WIDTH (COLUMNS * VEC)

/* The tile's place in the packed a, for the block of `steps` steps from `start` on; there are `tiles` tiles. */
static long tile_at(long tiles, long tile, long start, long steps)
{
	return (tiles * start + tile * steps) * ROWS;
}

/* The matrix of VEC vectors transposed: perfect shuffles of all its elements, as many as VEC has bits. */
static void transpose(realv x[VEC])
{
#if VEC > 1
#pragma unroll
	for (int step = 1; step < VEC; step *= 2) {
		realv y[VEC];
#pragma unroll
		for (int i = 0; i < VEC / 2; i++) {
			y[2 * i].even = x[i].lo;
			y[2 * i].odd = x[i + VEC / 2].lo;
			y[2 * i + 1].even = x[i].hi;
			y[2 * i + 1].odd = x[i + VEC / 2].hi;
		}
#pragma unroll
		for (int i = 0; i < VEC; i++)
			x[i] = y[i];
	}
#endif
}

/* A tile that is full, from step p on by whole vectors; returns the step before which it stopped. */
static long pack_vectors(__global const real *a, __global real *to, long room, long steps, long stride, int trans)
{
	long p = 0;
#if ROWS <= VEC
	/* A vector holds more than a step's rows: what is too much the next steps overwrite. None goes past the tile.
	 */
	long last = steps - (VEC + ROWS - 1) / ROWS;
	if (trans)
		for (; p <= last && room >= VEC; p++)
			STORE(LOAD(a, p * stride), to, p * ROWS);
	else
		for (; p + VEC - 1 <= last; p += VEC) {
			realv x[VEC];
#pragma unroll
			for (int i = 0; i < VEC; i++)
				x[i] = i < ROWS ? LOAD(a + i * stride, p) : (realv)(0);
			transpose(x);
#pragma unroll
			for (int i = 0; i < VEC; i++)
				STORE(x[i], to, (p + i) * ROWS);
		}
#endif
	return p;
}

/* A work-item packs a block of steps of one tile; the second dimension is the tile. Rows from m on become 0. */
SINGLE_KERNEL void ps_gemm_pack(IN(real, a), __global real *packed, long m, long k, long stride, int trans, int depth)
{
	long start = (long)get_global_id(0) * depth, tile = (long)get_global_id(1), row = tile * ROWS;
	long steps = min((long)depth, k - start), p = 0;
	int rows = (int)min((long)ROWS, m - row);
	__global real *to = packed + tile_at((long)get_global_size(1), tile, start, steps);
	__global const real *a = a_buffer + a_at + (trans ? start * stride + row : row * stride + start);
	if (rows == ROWS)
		p = pack_vectors(a, to, m - row, steps, stride, trans);
	for (; p < steps; p++)
		for (int i = 0; i < ROWS; i++)
			to[p * ROWS + i] = i < rows ? a[trans ? p * stride + i : i * stride + p] : (real)0;
}

/* to[p * WIDTH + j] = op(b)[start + p][column + j] for j < VEC, p < steps; columns from n on become 0. */
static void pack_vector(__global const real *b, __local real *to, long column, long n, long start, long steps,
                        long stride, int trans)
{
	long p = 0;
	if (!trans) {
		for (; p < steps; p++)
			STORE(load_some(b + (start + p) * stride, column, n, 0), to, p * WIDTH);
		return;
	}
	if (column + VEC <= n)
		for (; p + VEC <= steps; p += VEC) {
			realv x[VEC];
#pragma unroll
			for (int i = 0; i < VEC; i++)
				x[i] = LOAD(b + (column + i) * stride + start, p);
			transpose(x);
#pragma unroll
			for (int i = 0; i < VEC; i++)
				STORE(x[i], to, (p + i) * WIDTH);
		}
	for (; p < steps; p++)
		for (int i = 0; i < VEC; i++)
			to[p * WIDTH + i] = column + i < n ? b[(column + i) * stride + start + p] : (real)0;
}

/* What elements of c start from. */
static real start_of(__global const real *c, __global const real *bias, long column, int resume, int with_bias)
{
	real from = resume ? *c : (real)0;
	return with_bias ? from + bias[column] : from;
}

/*
 * One tile times one panel, added to what c holds when `resume` is set. c is the tile's corner, `column` its column,
 * `rows` and `n` are where c ends.
 */
static void tile_times_panel(__global const real *a, __local const real *b, __global real *c, __global const real *bias,
                             long c_stride, int rows, long column, long n, long steps, int resume, int with_bias)
{
	realv sum[ROWS][COLUMNS];
	real part[ROWS * WIDTH];
	int columns = (int)min((long)WIDTH, n - column), whole = rows >= ROWS && columns == WIDTH;
	if (!whole) {
		for (int i = 0; i < ROWS; i++)
			for (int j = 0; j < WIDTH; j++)
				part[i * WIDTH + j] = i < rows && j < columns ? start_of(c + i * c_stride + j, bias,
				                                                         column + j, resume, with_bias)
				                                              : (real)0;
#pragma unroll
		for (int i = 0; i < ROWS; i++)
#pragma unroll
			for (int j = 0; j < COLUMNS; j++)
				sum[i][j] = LOAD(part, i * WIDTH + j * VEC);
	} else {
#pragma unroll
		for (int j = 0; j < COLUMNS; j++) {
			realv shift = with_bias ? LOAD(bias, column + j * VEC) : (realv)(0);
#pragma unroll
			for (int i = 0; i < ROWS; i++)
				sum[i][j] = resume ? LOAD(c, i * c_stride + j * VEC) + shift : shift;
		}
	}
	for (long p = 0; p < steps; p++, a += ROWS, b += WIDTH) {
		realv v[COLUMNS];
#pragma unroll
		for (int j = 0; j < COLUMNS; j++)
			v[j] = LOAD(b, j * VEC);
#pragma unroll
		for (int i = 0; i < ROWS; i++)
#pragma unroll
			for (int j = 0; j < COLUMNS; j++)
				sum[i][j] = MAD((realv)(a[i]), v[j], sum[i][j]);
	}
	if (whole) {
#pragma unroll
		for (int i = 0; i < ROWS; i++)
#pragma unroll
			for (int j = 0; j < COLUMNS; j++)
				STORE(sum[i][j], c, i * c_stride + j * VEC);
		return;
	}
#pragma unroll
	for (int i = 0; i < ROWS; i++)
#pragma unroll
		for (int j = 0; j < COLUMNS; j++)
			STORE(sum[i][j], part, i * WIDTH + j * VEC);
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < columns; j++)
			c[i * c_stride + j] = part[i * WIDTH + j];
}

/*
 * A work-item has block_columns columns (whole panels; the first dimension) of block_tiles tiles (the second). `panels`
 * holds depth * block_columns elements.
 */
SINGLE_KERNEL void ps_gemm(__global const real *packed, IN(real, b), OUT(real, c), IN(real, bias), long m, long n,
                           long k, long b_stride, long c_stride, int trans_b, int accumulate, int with_bias, int depth,
                           int block_columns, int block_tiles, __local real *panels)
{
	long tiles = (m + ROWS - 1) / ROWS, first = (long)get_global_id(1) * block_tiles;
	long last = min(first + block_tiles, tiles);
	long column = (long)get_global_id(0) * block_columns, end = min(column + block_columns, n);
	end = column + (end - column + WIDTH - 1) / WIDTH * WIDTH;
	__global const real *bias = bias_buffer + bias_at;
	for (long start = 0; start < k; start += depth) {
		long steps = min((long)depth, k - start);
		for (long j = column; j < end; j += VEC)
			pack_vector(b_buffer + b_at,
			            panels + (j - column) / WIDTH * WIDTH * steps + (j - column) % WIDTH, j, n, start,
			            steps, b_stride, trans_b);
		for (long j = column; j < end; j += WIDTH)
			for (long tile = first; tile < last; tile++)
				tile_times_panel(packed + tile_at(tiles, tile, start, steps),
				                 panels + (j - column) * steps,
				                 c_buffer + c_at + tile * ROWS * c_stride + j, bias, c_stride,
				                 (int)min((long)ROWS, m - tile * ROWS), j, n, steps,
				                 start > 0 || accumulate, start == 0 && with_bias);
	}
}
#endif

#ifdef TILES
/*
 * Host parameters: a group of GROUP_X times GROUP_Y work-items, each with ROWS times COLUMNS elements of c, of which
 * those of a row lie GROUP_X apart. The group brings STEPS steps of its rows of a and of its columns of b into local
 * memory at once, read so that neighbours read neighbours.
 */
#define TILE_ROWS (GROUP_Y * ROWS)
#define TILE_COLUMNS (GROUP_X * COLUMNS)
#define STEPS 16

/* to[p * extent + i] = matrix[at + i][start + p], or [start + p][at + i] with `across`; 0 beyond `end` and k. */
static void fetch(__global const real *matrix, __local real *to, int extent, long at, long end, long start, long k,
                  long stride, int across)
{
	int me = (int)(get_local_id(1) * GROUP_X + get_local_id(0));
	for (int e = me; e < STEPS * extent; e += GROUP_X * GROUP_Y) {
		int i = across ? e % extent : e / STEPS, p = across ? e / extent : e % STEPS;
		bool in = at + i < end && start + p < k;
		long place = across ? (start + p) * stride + at + i : (at + i) * stride + start + p;
		to[p * extent + i] = in ? matrix[place] : (real)0;
	}
}

__kernel __attribute__((reqd_work_group_size(GROUP_X, GROUP_Y, 1))) void
ps_gemm(IN(real, a), IN(real, b), OUT(real, c), IN(real, bias), long m, long n, long k, long a_stride, long b_stride,
        long c_stride, int trans_a, int trans_b, int accumulate, int with_bias)
{
	__local real some_a[STEPS * TILE_ROWS], some_b[STEPS * TILE_COLUMNS];
	long row = (long)get_group_id(1) * TILE_ROWS, column = (long)get_group_id(0) * TILE_COLUMNS;
	int x = (int)get_local_id(0), y = (int)get_local_id(1) * ROWS;
	__global real *c = c_buffer + c_at;
	real sum[ROWS][COLUMNS];
#pragma unroll
	for (int i = 0; i < ROWS; i++)
#pragma unroll
		for (int j = 0; j < COLUMNS; j++) {
			long r = row + y + i, s = column + x + j * GROUP_X;
			sum[i][j] = accumulate && r < m && s < n ? c[r * c_stride + s] : (real)0;
			if (with_bias && s < n)
				sum[i][j] += bias_buffer[bias_at + s];
		}
	for (long start = 0; start < k; start += STEPS) {
		fetch(a_buffer + a_at, some_a, TILE_ROWS, row, m, start, k, a_stride, trans_a);
		fetch(b_buffer + b_at, some_b, TILE_COLUMNS, column, n, start, k, b_stride, !trans_b);
		barrier(CLK_LOCAL_MEM_FENCE);
		int steps = (int)min((long)STEPS, k - start);
		for (int p = 0; p < steps; p++) {
			real v[COLUMNS];
#pragma unroll
			for (int j = 0; j < COLUMNS; j++)
				v[j] = some_b[p * TILE_COLUMNS + x + j * GROUP_X];
#pragma unroll
			for (int i = 0; i < ROWS; i++) {
				real factor = some_a[p * TILE_ROWS + y + i];
#pragma unroll
				for (int j = 0; j < COLUMNS; j++)
					sum[i][j] = MAD(factor, v[j], sum[i][j]);
			}
		}
		barrier(CLK_LOCAL_MEM_FENCE);
	}
#pragma unroll
	for (int i = 0; i < ROWS; i++)
#pragma unroll
		for (int j = 0; j < COLUMNS; j++) {
			long r = row + y + i, s = column + x + j * GROUP_X;
			if (r < m && s < n)
				c[r * c_stride + s] = sum[i][j];
		}
}
#endif

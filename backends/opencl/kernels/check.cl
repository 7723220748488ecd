/* What a product is checked with, and how it is compared. */

/* Whole numbers from -3 to 3, whose products add up exactly: what a product is checked with. */
ELEMENT_KERNEL void ps_fill_whole(__global real *x, long count, uint seed)
{
	long i = (long)get_global_id(0);
	if (i < count)
		x[i] = (real)((int)((((uint)i * 2654435761U + seed) >> 13) % 7) - 3);
}

/* Adds to different[0] the number of elements that are not the same, a NaN counted as one. */
ELEMENT_KERNEL void ps_compare(__global const real *x, __global const real *y, long count, __global int *different)
{
	int wrong = 0;
	for (long i = (long)get_global_id(0); i < count; i += (long)get_global_size(0))
		wrong += !(x[i] == y[i]);
	if (wrong)
		atomic_add(different, wrong);
}

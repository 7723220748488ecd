/* Gradient norm, clipping and SGD, whose sums and factors are doubles: only where the device has them. */
#ifdef FP64

typedef VECTOR(double) doublev;
#define TO_DOUBLEV JOIN(convert_, VECTOR(double))
#define SQUARES_OF_GROUP 16384

GROUP_FOLD(total_of, double, SUM)

/* partial[group] = the sum of x^2 over the group's SQUARES_OF_GROUP elements. */
ROW_KERNEL void ps_sum_squares(IN(real, x), __global double *partial, long count)
{
	__local double scratch[GROUP];
	USE_IN(real, x);
	long start = (long)get_group_id(0) * SQUARES_OF_GROUP, end = min(start + SQUARES_OF_GROUP, count);
	doublev sum = (doublev)(0);
	for (long i = start + (long)get_local_id(0) * VEC; i < end; i += GROUP * VEC) {
		doublev v = TO_DOUBLEV(load_some(x, i, end, 0));
		sum += v * v;
	}
	double part[VEC], own = 0;
	STORE(sum, part, 0);
	for (int k = 0; k < VEC; k++)
		own += part[k];
	double total = total_of(scratch, own);
	if (get_local_id(0) == 0)
		partial[get_group_id(0)] = total;
}

ROW_KERNEL void ps_sum_partial(__global const double *partial, OUT(double, out), long count)
{
	__local double scratch[GROUP];
	double sum = 0;
	for (long i = get_local_id(0); i < count; i += GROUP)
		sum += partial[i];
	double total = total_of(scratch, sum);
	if (get_local_id(0) == 0)
		out_buffer[out_at] = total;
}

SINGLE_KERNEL void ps_clip_scale(IN(double, sums), OUT(double, norm), OUT(double, scale), long count, double max_norm)
{
	USE_IN(double, sums);
	double sum = 0, factor = 1;
	for (long i = 0; i < count; i++)
		sum += sums[i];
	double root = sqrt(sum);
	if (max_norm > 0) {
		factor = max_norm / (root + 1e-6);
		if (factor > 1)
			factor = 1;
	}
	norm_buffer[norm_at] = root;
	scale_buffer[scale_at] = isfinite(root) ? factor : nan((ulong)0);
}

ELEMENT_KERNEL void ps_sgd(OUT(real, w), IN(real, g), IN(double, scale), long count, double lr)
{
	USE_OUT(real, w);
	USE_IN(real, g);
	long i = (long)get_global_id(0) * VEC;
	if (i >= count || isnan(scale_buffer[scale_at]))
		return;
	real rate = (real)(-(lr * scale_buffer[scale_at]));
	store_some(MAD((realv)(rate), load_some(g, i, count, 0), load_some(w, i, count, 0)), w, i, count);
}
#endif

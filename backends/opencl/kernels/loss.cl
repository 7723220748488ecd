/* Softmax and cross entropy in one. A group takes a row. */

ROW_KERNEL void ps_cross_entropy(IN(real, logits), IN(int, targets), OUT(real, losses), OUT(real, dlogits),
                                 int with_gradient, long columns, real scale, __global const int *fault)
{
	__local real scratch[GROUP];
	if (fault[0] != NO_FAULT)
		return;
	long row = (long)get_group_id(0);
	int me = get_local_id(0);
	__global const real *x = logits_buffer + logits_at + row * columns;
	__global real *dx = dlogits_buffer + dlogits_at + row * columns;
	int target = targets_buffer[targets_at + row];
	real chosen = x[target];
	/* dlogits, which is written from now on, may lie over the logits. */
	barrier(CLK_GLOBAL_MEM_FENCE);
	realv most_all = (realv)(-INFINITY), sum_all = (realv)(0);
	for (long j = (long)me * VEC; j < columns; j += GROUP * VEC)
		most_all = fmax(most_all, load_some(x, j, columns, -INFINITY));
	real most = group_most(scratch, most_of(most_all));
	for (long j = (long)me * VEC; j < columns; j += GROUP * VEC) {
		realv e = exp(load_some(x, j, columns, -INFINITY) - most);
		sum_all += e;
		if (with_gradient)
			store_some(e, dx, j, columns);
	}
	real sum = group_sum(scratch, sum_of(sum_all));
	if (me == 0)
		losses_buffer[losses_at + row] = log(sum) + (most - chosen);
	if (!with_gradient)
		return;
	/* What a work-item reads of dlogits below it has written above. */
	for (long j = (long)me * VEC; j < columns; j += GROUP * VEC) {
		realv softmax = load_some(dx, j, columns, 0) / sum;
		if (target >= j && target < j + VEC) {
			real part[VEC];
			STORE(softmax, part, 0);
			part[target - j] -= 1;
			softmax = LOAD(part, 0);
		}
		store_some(softmax * scale, dx, j, columns);
	}
}

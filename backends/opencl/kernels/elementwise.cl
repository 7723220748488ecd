/* Kernels over single elements: a work-item takes one vector, or CHUNK elements where a mask is needed. */

ELEMENT_KERNEL void ps_add(IN(real, a), IN(real, b), OUT(real, y), long count)
{
	USE_IN(real, a);
	USE_IN(real, b);
	USE_OUT(real, y);
	long i = (long)get_global_id(0) * VEC;
	if (i < count)
		store_some(load_some(a, i, count, 0) + load_some(b, i, count, 0), y, i, count);
}

ELEMENT_KERNEL void ps_relu_fwd(IN(real, x), OUT(real, y), long count)
{
	USE_IN(real, x);
	USE_OUT(real, y);
	long i = (long)get_global_id(0) * VEC;
	if (i < count)
		store_some(relu(load_some(x, i, count, 0)), y, i, count);
}

/* dx = dy * factor where y > 0, else 0; a factor of 1 is plain relu. */
ELEMENT_KERNEL void ps_relu_bwd(IN(real, dy), IN(real, y), OUT(real, dx), long count, real factor)
{
	USE_IN(real, dy);
	USE_IN(real, y);
	USE_OUT(real, dx);
	long i = (long)get_global_id(0) * VEC;
	if (i >= count)
		return;
	realv active = load_some(y, i, count, 0), g = load_some(dy, i, count, 0) * factor;
	store_some(select((realv)(0), g, TO_MASK(active > (realv)(0))), dx, i, count);
}

/* y = dropout(x), or dropout(relu(x)). The second dimension is the sample row. */
ELEMENT_KERNEL void ps_dropout(IN(real, x), OUT(real, y), long elements, int with_relu, DROP)
{
	long first = (long)get_global_id(0) * CHUNK;
	long row = (long)get_global_id(1);
	if (first >= elements)
		return;
	__global const real *x = x_buffer + x_at + row * elements;
	__global real *y = y_buffer + y_at + row * elements;
	uint words[CHUNK];
	if (dropping)
		words_of(words, first, first_row + (uint)row, DROP_PLACE);
	for (int k = 0; k < CHUNK; k += VEC) {
		long i = first + k;
		if (i >= elements)
			return;
		realv v = load_some(x, i, elements, 0);
		if (with_relu)
			v = relu(v);
		if (dropping)
			v = drop(v, words + k, threshold, factor);
		store_some(v, y, i, elements);
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

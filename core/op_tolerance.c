/*
 * How far the outputs of an op may be off, from its arguments: the tolerance by how many terms are added, and the size
 * of the terms by the values that went in.
 *
 * A sum of k terms of size s is off by about epsilon s k / 2 when it is added up one by one in no particular order; its
 * own size is about s sqrt(k) unless the terms cancel. Hence ps__tolerance_of_sum grows with sqrt(k) and is relative to
 * s sqrt(k), which for a product of matrices is |row of a| |column of b| / sqrt(k).
 */
#include "core/operands.h"

#include <math.h>

/* An operand's values. */
struct values {
	ps_tensor tensor;
	const void *at; /* NULL: there are none */
};

/* As (rows, columns): the last dimension is the columns. */
static int64_t columns_of(ps_tensor tensor)
{
	return tensor.rank ? tensor.dims[tensor.rank - 1] : 1;
}

static double at(struct values v, int64_t row, int64_t column)
{
	int64_t pitch = v.tensor.rank == 2 ? v.tensor.strides[0] : columns_of(v.tensor);
	double value = ps__element(v.at, v.tensor.dtype, row * pitch + column);
	return isfinite(value) ? value : 0;
}

static double largest(struct values v)
{
	double most = 0;
	int64_t columns = columns_of(v.tensor), rows = v.at ? ps_tensor_count(v.tensor) / columns : 0;
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < columns; c++)
			most = fmax(most, fabs(at(v, r, c)));
	return most;
}

/* The largest norm of pieces of `width` columns within a row, in columns [from, to). */
static double largest_piece(struct values v, int64_t from, int64_t to, int64_t width)
{
	double most = 0;
	int64_t rows = ps_tensor_count(v.tensor) / columns_of(v.tensor);
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t piece = from; piece < to; piece += width) {
			double sum = 0;
			for (int64_t c = piece; c < piece + width; c++)
				sum += at(v, r, c) * at(v, r, c);
			most = fmax(most, sum);
		}
	}
	return sqrt(most);
}

static double largest_row(struct values v)
{
	return largest_piece(v, 0, columns_of(v.tensor), columns_of(v.tensor));
}

static double largest_column(struct values v)
{
	double most = 0;
	int64_t columns = columns_of(v.tensor), rows = ps_tensor_count(v.tensor) / columns;
	/* A few columns at a time, so that the rows are not walked once for each. */
	enum { BLOCK = 16 };
	for (int64_t first = 0; first < columns; first += BLOCK) {
		double sums[BLOCK] = {0};
		int64_t width = columns - first < BLOCK ? columns - first : BLOCK;
		for (int64_t r = 0; r < rows; r++)
			for (int64_t c = 0; c < width; c++)
				sums[c] += at(v, r, first + c) * at(v, r, first + c);
		for (int64_t c = 0; c < width; c++)
			most = fmax(most, sums[c]);
	}
	return sqrt(most);
}

/* The largest |x - mean| * rstd, and in *offset the largest |mean| * rstd: how many digits the mean takes away. */
static double largest_normal(struct values x, struct values mean, struct values rstd, double *offset)
{
	double most = 0;
	int64_t columns = columns_of(x.tensor), rows = ps_tensor_count(x.tensor) / columns;
	*offset = 0;
	for (int64_t r = 0; r < rows; r++) {
		double m = at(mean, 0, r), s = fabs(at(rstd, 0, r));
		*offset = fmax(*offset, fabs(m) * s);
		for (int64_t c = 0; c < columns; c++)
			most = fmax(most, fabs(at(x, r, c) - m) * s);
	}
	return most;
}

static ps__tolerance with_terms(ps__tolerance tolerance, double terms)
{
	tolerance.terms = terms;
	return tolerance;
}

static ps__tolerance relative(double f32, double f64, double terms)
{
	return (ps__tolerance){.f32 = f32, .f64 = f64, .terms = terms};
}

/* Of x and its statistics: digits that are lost with the mean count as lost. */
static ps__tolerance of_normal(double offset, double terms)
{
	return relative(1e-5 * (1 + offset), 1e-12 * (1 + offset), terms);
}

#define VALUES(field, index) ((struct values){x->field, values[index]})

static ps__tolerance of_gemm(const ps_args_gemm *x, const void *const *values)
{
	struct values a = VALUES(a, 1), b = VALUES(b, 2);
	int64_t k = x->trans_a ? x->a.dims[0] : x->a.dims[1];
	double rows = x->trans_a ? largest_column(a) : largest_row(a);
	double columns = x->trans_b ? largest_row(b) : largest_column(b);
	return with_terms(ps__tolerance_of_sum(k), rows * columns / sqrt((double)k));
}

static ps__tolerance of_column_sum(const ps_args_column_sum *x, const void *const *values)
{
	struct values terms = VALUES(x, 1);
	int64_t count = ps_tensor_count(x->x) / columns_of(x->x);
	return with_terms(ps__tolerance_of_sum(count), largest_column(terms));
}

static ps__tolerance of_embedding_fwd(const ps_args_embedding_fwd *x, const void *const *values)
{
	double terms = largest(VALUES(weight, 2)) * fabs(x->scale) + largest(VALUES(positions, 3));
	return relative(1e-6, 1e-15, terms / (1 - (double)x->drop.p));
}

static ps__tolerance of_embedding_bwd_weight(const ps_args_embedding_bwd_weight *x, const void *const *values)
{
	double terms = largest(VALUES(dy, 2)) * fabs(x->scale) / (1 - (double)x->drop.p);
	return with_terms(ps__tolerance_of_sum(ps_tensor_count(x->tokens)), terms);
}

/* What layernorm leaves of a row. */
enum part { NORMAL, MEAN, RSTD };

static ps__tolerance of_part(enum part part, struct values in, struct values mean, struct values rstd,
                             struct values gamma, struct values beta)
{
	double offset, normal = largest_normal(in, mean, rstd, &offset);
	switch (part) {
	case MEAN:
		return relative(2e-6, 1e-13, largest(in));
	case RSTD:
		return relative(2e-6 * (1 + offset), 1e-13 * (1 + offset), 0);
	case NORMAL:
		break;
	}
	return of_normal(offset, normal * largest(gamma) + largest(beta));
}

static ps__tolerance of_layernorm_fwd(const ps_args_layernorm_fwd *x, int output, const void *const *values)
{
	return of_part((enum part)output, VALUES(x, 3), VALUES(mean, 1), VALUES(rstd, 2), VALUES(gamma, 4),
	               VALUES(beta, 5));
}

/* sum is one product and one sum, which a device may form with one rounding or with two. */
static ps__tolerance of_dropout_add_layernorm_fwd(const ps_args_dropout_add_layernorm_fwd *x, int output,
                                                  const void *const *values)
{
	if (output == 0)
		return relative(3e-7, 1e-15,
		                largest(VALUES(residual, 5)) + largest(VALUES(z, 4)) / (1 - (double)x->drop.p));
	return of_part((enum part)(output - 1), VALUES(sum, 0), VALUES(mean, 2), VALUES(rstd, 3), VALUES(gamma, 6),
	               VALUES(beta, 7));
}

/* dx of layernorm over x: its terms are rstd times dy gamma, once alone and once with the normalized x. */
static ps__tolerance of_norm_gradient(struct values dy, struct values x, struct values mean, struct values rstd,
                                      struct values gamma, double factor)
{
	double offset, normal = largest_normal(x, mean, rstd, &offset);
	double terms = largest(rstd) * largest(dy) * largest(gamma) * (1 + normal);
	return of_normal(offset, terms * factor);
}

static ps__tolerance of_layernorm_bwd_input(const ps_args_layernorm_bwd_input *x, const void *const *values)
{
	return of_norm_gradient(VALUES(dy, 1), VALUES(x, 2), VALUES(mean, 3), VALUES(rstd, 4), VALUES(gamma, 5), 1);
}

static ps__tolerance of_dropout_add_layernorm_bwd_input(const ps_args_dropout_add_layernorm_bwd_input *x, int output,
                                                        const void *const *values)
{
	return of_norm_gradient(VALUES(dy, 2), VALUES(sum, 3), VALUES(mean, 4), VALUES(rstd, 5), VALUES(gamma, 6),
	                        output == 0 ? 1 : 1 / (1 - (double)x->drop.p));
}

static ps__tolerance of_layernorm_bwd_weight(const ps_args_layernorm_bwd_weight *x, int output,
                                             const void *const *values)
{
	struct values dy = VALUES(dy, 2);
	double offset, normal = largest_normal(VALUES(x, 3), VALUES(mean, 4), VALUES(rstd, 5), &offset);
	return with_terms(ps__tolerance_of_sum(ps_tensor_count(x->mean)),
	                  largest_column(dy) * (output == 0 ? normal + offset : 1));
}

/* By how much rounding to the factors of a product changes a number at most, relative to it; 0: they are not rounded.
 */
static double rounding(ps_dtype dtype, ps_math math)
{
	if (dtype == PS_F64 || math == PS_MATH_F32)
		return 0;
	return math == PS_MATH_BF16 ? 1.0 / 256 : 1.0 / 2048;
}

/* The scores' errors are those of sums of d products; exp makes relative ones of them. */
static double score_size(struct values qkv, int heads)
{
	int64_t width = columns_of(qkv.tensor) / 3, d = width / heads;
	return largest_piece(qkv, 0, width, d) * largest_piece(qkv, width, 2 * width, d) / sqrt((double)d);
}

/* Two factors of each product may be rounded, those of the scores and those of out. */
static ps__tolerance of_attention_fwd(const ps_args_attention_fwd *x, int output, const void *const *values,
                                      ps_math math)
{
	struct values qkv = VALUES(qkv, 2);
	int64_t width = columns_of(x->qkv) / 3, time = x->qkv.dims[1];
	ps__tolerance score = ps__tolerance_of_sum(width / x->heads), sum = ps__tolerance_of_sum(time);
	double size = score_size(qkv, x->heads), unit = rounding(x->qkv.dtype, math);
	ps__tolerance out = relative(1e-5 + (score.f32 + 2 * unit) * size, 1e-13 + score.f64 * size, 0);
	if (output == 0)
		return out;
	out.f32 += sum.f32 + 2 * unit;
	out.f64 += sum.f64;
	out.terms = largest_piece(qkv, 2 * width, 3 * width, 1) / (1 - (double)x->drop.p);
	return out;
}

/*
 * dv is a sum of probabilities times dout; dq and dk are sums of ds times k and q, where ds is a difference of two
 * values of the size of dout v^T, which is a sum of d products, over sqrt(d). Two factors of each product may be
 * rounded, and those of dq and dk come from other products.
 */
static ps__tolerance of_attention_bwd(const ps_args_attention_bwd *x, const void *const *values, ps_math math)
{
	struct values qkv = VALUES(qkv, 1), probs = VALUES(probs, 2), dout = VALUES(dout, 3);
	int64_t width = columns_of(x->qkv) / 3, time = x->qkv.dims[1], d = width / x->heads;
	double keep = 1 - (double)x->drop.p, share = 1;
	/* The most that all positions together give to one: the largest sum of a column of one head's probabilities. */
	for (int64_t square = 0; square < ps_tensor_count(x->probs) / (time * time); square++) {
		for (int64_t j = 0; j < time; j++) {
			double sum = 0;
			for (int64_t i = 0; i < time; i++)
				sum += fabs(at(probs, square * time + i, j));
			share = fmax(share, sum);
		}
	}
	double ds =
	        2 * largest_piece(dout, 0, width, d) * largest_piece(qkv, 2 * width, 3 * width, d) / (double)d / keep;
	double terms = fmax(ds * share * largest_piece(qkv, 0, 2 * width, 1), largest(dout) * share / keep);
	ps__tolerance tolerance = ps__tolerance_of_sum(d * time);
	tolerance.f32 += 4 * rounding(x->qkv.dtype, math);
	return with_terms(tolerance, terms);
}

/* exp makes relative errors of the logits' own; where softmax - 1 cancels, what is left is off by its rounding. */
static ps__tolerance of_cross_entropy(const ps_args_cross_entropy *x, int output, const void *const *values)
{
	double size = 1 + largest(VALUES(logits, 2));
	if (output == 0)
		return relative(4e-6, 1e-13, size);
	return relative(1e-5 + 6e-7 * size, 1e-12 + 2e-15 * size, 0.03 * fabs(x->scale));
}

static ps__tolerance of_sgd(const ps_args_sgd *x, const void *const *values)
{
	/* Of bf16 weights every bit is defined. */
	if (x->w.dtype == PS_BF16)
		return (ps__tolerance){0};
	return relative(3e-7, 1e-15, fabs(x->lr) * largest(VALUES(scale, 3)) * largest(VALUES(g, 2)));
}

ps__tolerance ps__op_tolerance(ps_op op, const void *arguments, int output, const void *const *values, ps_math math)
{
	switch (op) {
	case PS_OP_gemm:
		return of_gemm(arguments, values);
	case PS_OP_column_sum:
		return of_column_sum(arguments, values);
	case PS_OP_embedding_fwd:
		return of_embedding_fwd(arguments, values);
	case PS_OP_embedding_bwd_weight:
		return of_embedding_bwd_weight(arguments, values);
	case PS_OP_layernorm_fwd:
		return of_layernorm_fwd(arguments, output, values);
	case PS_OP_layernorm_bwd_input:
		return of_layernorm_bwd_input(arguments, values);
	case PS_OP_layernorm_bwd_weight:
		return of_layernorm_bwd_weight(arguments, output, values);
	case PS_OP_dropout_add_layernorm_fwd:
		return of_dropout_add_layernorm_fwd(arguments, output, values);
	case PS_OP_dropout_add_layernorm_bwd_input:
		return of_dropout_add_layernorm_bwd_input(arguments, output, values);
	case PS_OP_attention_fwd:
		return of_attention_fwd(arguments, output, values, math);
	case PS_OP_attention_bwd:
		return of_attention_bwd(arguments, values, math);
	case PS_OP_cross_entropy:
		return of_cross_entropy(arguments, output, values);
	case PS_OP_sum_squares:
		return ps__tolerance_of_sum(ps_tensor_count(((const ps_args_sum_squares *)arguments)->x));
	case PS_OP_clip_scale:
		return relative(0, 1e-15, 0);
	case PS_OP_sgd:
		return of_sgd(arguments, values);
	/* Ops on single elements, whose results are defined to the last bit. */
	case PS_OP_add:
	case PS_OP_relu_fwd:
	case PS_OP_relu_bwd:
	case PS_OP_dropout:
	case PS_OP_relu_dropout_fwd:
	case PS_OP_relu_dropout_bwd:
	case PS_OP_COUNT:
		break;
	}
	return (ps__tolerance){0};
}

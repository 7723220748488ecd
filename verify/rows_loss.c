/* Conformance of softmax and cross entropy. */
#include "verify/conform.h"

struct row {
	int64_t rows, vocabulary;
	enum conform_fill fill;
	float scale;
	enum { NO_GRADIENT, APART, IN_PLACE } gradient;
};

static const struct row rows[] = {
        {1, 1, FILL_UNIT, 1, APART},
        {1, 2, FILL_UNIT, 0.5F, IN_PLACE},
        {3, 7, FILL_UNIT, 1, NO_GRADIENT},
        {7, 17, FILL_WHOLE, -1, APART},
        {17, 33, FILL_UNIT, 1e-3F, IN_PLACE},
        {5, 129, FILL_LARGE, 1, APART},
        {5, 129, FILL_TINY, 1, IN_PLACE},
        {33, 1000, FILL_WHOLE, 1.0F / 500, IN_PLACE},
        {2, 4099, FILL_UNIT, 1, APART},
        {3, 28782, FILL_UNIT, 1.0F / 500, IN_PLACE},
        {35, 28782, FILL_WHOLE, 1.0F / 700, NO_GRADIENT},
        {3, 130, FILL_UNIT, 1, APART},
        {3, 132, FILL_UNIT, 1, APART},
};

static void cross_entropy_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	ps_args_cross_entropy x = {
	        .targets = conform_in(c, "targets", SHAPE(row->rows), .bound = row->vocabulary),
	        .losses = conform_out(c, "losses", SHAPE(row->rows), .tolerance = CONFORM_CLOSE, .terms = 1),
	        .scale = row->scale};
	/* dlogits is small beside scale where softmax - 1 cancels; the tolerance is relative to its mean square. */
	if (row->gradient == IN_PLACE) {
		x.logits = x.dlogits = conform_inout(c, "logits", SHAPE(row->rows, row->vocabulary), .fill = row->fill,
		                                     .tolerance = {.f32 = 1e-5, .f64 = 1e-12});
	} else {
		x.logits = conform_in(c, "logits", SHAPE(row->rows, row->vocabulary), .fill = row->fill);
		if (row->gradient == APART)
			x.dlogits = conform_out(c, "dlogits", SHAPE(row->rows, row->vocabulary),
			                        .tolerance = {.f32 = 1e-5, .f64 = 1e-12});
	}
	ps__conform_call(c, PS_OP_cross_entropy, &x, sizeof x);
}

static const struct conform_set sets[] = {
        CONFORM_SET(cross_entropy, "", rows, cross_entropy_body),
};

const struct conform_family ps__conform_loss = CONFORM_FAMILY("loss", sets);

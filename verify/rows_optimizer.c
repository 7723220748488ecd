/* Conformance of the gradient norm, clipping and SGD. */
#include "verify/conform.h"

struct row {
	int64_t count;
	enum conform_fill fill;
};

static const struct row rows[] = {
        {1, FILL_UNIT},     {3, FILL_UNIT},       {7, FILL_WHOLE},         {17, FILL_UNIT},
        {33, FILL_LARGE},   {129, FILL_UNIT},     {1000, FILL_TINY},       {4099, FILL_WHOLE},
        {65537, FILL_UNIT}, {1000003, FILL_UNIT}, {4096 * 512, FILL_UNIT},
};

static void sum_squares_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	ps__tolerance tolerance = ps__tolerance_of_sum(row->count);
	conform_run(c, sum_squares, .x = conform_in(c, "x", SHAPE(row->count), .fill = row->fill),
	            .out = conform_out(c, "out", SHAPE(1), .wide = true, .tolerance = tolerance));
}

struct clip_row {
	int64_t count;
	double max_norm;
};

static const struct clip_row clip_rows[] = {
        {1, 0.5}, {1, 100},   {1, 1.3},    {3, 1.8},  {17, 5},     {3, 0},
        {7, -1},  {17, 0.25}, {147, 1e-9}, {147, 12}, {1000, 1e9},
};

static void clip_scale_body(struct conform *c, const void *data)
{
	const struct clip_row *row = data;
	conform_run(c, clip_scale,
	            .sums = conform_in(c, "sums", SHAPE(row->count), .wide = true, .fill = FILL_POSITIVE),
	            .norm = conform_out(c, "norm", SHAPE(1), .wide = true, .tolerance = {.f32 = 0, .f64 = 1e-15}),
	            .scale = conform_out(c, "scale", SHAPE(1), .wide = true, .tolerance = {.f32 = 0, .f64 = 1e-15}),
	            .max_norm = row->max_norm);
}

static void sgd_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	conform_run(c, sgd,
	            .w = conform_inout(c, "w", SHAPE(row->count), .fill = row->fill,
	                               .tolerance = {.f32 = 3e-7, .f64 = 1e-15}, .terms = row->fill == FILL_UNIT),
	            .g = conform_in(c, "g", SHAPE(row->count), .fill = row->fill),
	            .scale = conform_in(c, "scale", SHAPE(1), .wide = true, .fill = FILL_POSITIVE), .lr = 4.75);
}

static const struct conform_set sets[] = {
        CONFORM_SET(sum_squares, "", rows, sum_squares_body),
        CONFORM_SET(clip_scale, "", clip_rows, clip_scale_body),
        CONFORM_SET(sgd, "", rows, sgd_body),
};

const struct conform_family ps__conform_optimizer = CONFORM_FAMILY("optimizer", sets);

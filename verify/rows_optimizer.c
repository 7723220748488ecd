/* Conformance of the gradient norm, clipping and SGD. */
#include "verify/conform.h"

struct row {
	int64_t count;
	enum conform_fill fill;
};

/* The scale of an update whose norm is not finite. */
static const struct row lost_rows[] = {{1, FILL_UNIT}, {17, FILL_UNIT}, {4099, FILL_SPECIAL}};

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
	enum conform_fill fill;
};

static const struct clip_row clip_rows[] = {
        {1, 0.5, FILL_POSITIVE},    {1, 100, FILL_POSITIVE},  {1, 1.3, FILL_POSITIVE},    {3, 1.8, FILL_POSITIVE},
        {17, 5, FILL_POSITIVE},     {3, 0, FILL_POSITIVE},    {7, -1, FILL_POSITIVE},     {17, 0.25, FILL_POSITIVE},
        {147, 1e-9, FILL_POSITIVE}, {147, 12, FILL_POSITIVE}, {1000, 1e9, FILL_POSITIVE}, {2, 0.5, FILL_INFINITE},
        {2, 0, FILL_INFINITE},      {2, 0.5, FILL_NAN},       {2, 0, FILL_NAN},
};

static void clip_scale_body(struct conform *c, const void *data)
{
	const struct clip_row *row = data;
	conform_run(c, clip_scale, .sums = conform_in(c, "sums", SHAPE(row->count), .wide = true, .fill = row->fill),
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

static void sgd_lost_body(struct conform *c, const void *data)
{
	const struct row *row = data;
	conform_run(c, sgd, .w = conform_inout(c, "w", SHAPE(row->count)),
	            .g = conform_in(c, "g", SHAPE(row->count), .fill = row->fill),
	            .scale = conform_in(c, "scale", SHAPE(1), .wide = true, .fill = FILL_NAN), .lr = 4.75);
}

static const struct conform_set sets[] = {
        CONFORM_SET(sum_squares, "", rows, sum_squares_body),
        CONFORM_SET(clip_scale, "", clip_rows, clip_scale_body),
        CONFORM_SET(sgd, "", rows, sgd_body),
        CONFORM_SET(sgd, "lost", lost_rows, sgd_lost_body),
};

const struct conform_family ps__conform_optimizer = CONFORM_FAMILY("optimizer", sets);

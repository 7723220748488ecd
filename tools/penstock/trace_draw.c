/* The picture of a step: SVG that needs nothing but itself, on a light or a dark page. */
#include "tools/penstock/trace_step.h"

#include <math.h>
#include <string.h>

enum {
	WIDTH = 1200,
	LEFT = 170,  /* where time begins */
	RIGHT = 130, /* for what is idle */
	STAGE_ROW = 34,
	LINK_ROW = 18,
	GAP = 6,
	HEAD = 64, /* title and legend */
	SIDE_HEAD = 22,
	AXIS = 30,
	LETTER = 7, /* the width of a digit in a box */
};

/* Colours that are told apart with every kind of colour vision (Okabe and Ito), and letters that show on them. */
static const struct {
	const char *name, *text, *fill, *letter;
} looks[BOX_KINDS] = {
        [BOX_F] = {"F", "forward", "#0072b2", "#ffffff"},
        [BOX_B] = {"B", "input gradient", "#e69f00", "#000000"},
        [BOX_W] = {"W", "weight gradient", "#009e73", "#000000"},
        [BOX_BW] = {"BW", "both gradients", "#d55e00", "#000000"},
        [BOX_R] = {"R", "recomputation", "#cc79a7", "#000000"},
        [BOX_TRANSFER] = {"T", "transfer", "#56b4e9", "#000000"},
};

/* Text of a file, for XML; its control characters are no characters there. */
static void put_text(FILE *to, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '&')
			fputs("&amp;", to);
		else if (*text == '<')
			fputs("&lt;", to);
		else if (*text == '>')
			fputs("&gt;", to);
		else
			fputc((unsigned char)*text < ' ' || *text == 127 ? ' ' : *text, to);
	}
}

/* A unit that gives the length a few digits before the point. */
static const char *unit_of(double seconds, double *scale)
{
	*scale = seconds >= 2 ? 1 : seconds >= 2e-3 ? 1e3 : 1e6;
	return seconds >= 2 ? "s" : seconds >= 2e-3 ? "ms" : "µs";
}

/* The decimals with which a number of this size has so many digits; numbers beside it are shown to the same place. */
static int decimals(double size, int digits)
{
	int whole = size >= 10 ? (int)floor(log10(size)) : 0;
	return digits - 1 > whole ? digits - 1 - whole : 0;
}

/* 1, 2 or 5 times a power of ten, so that there are at most ten ticks. */
static double tick_of(double length)
{
	double power = pow(10, floor(log10(length / 10)));
	for (int i = 0; i < 3; i++) {
		double tick = power * (const double[]){1, 2, 5}[i];
		if (length / tick <= 10)
			return tick;
	}
	return power * 10;
}

static int side_height(const trace_side *side)
{
	int height = SIDE_HEAD;
	for (int r = 0; r < side->row_count; r++)
		height += (side->rows[r].link ? LINK_ROW : STAGE_ROW) + GAP;
	return height;
}

static void draw_head(const trace_step *step, int height, FILE *to)
{
	double scale;
	const trace_side *side = &step->measured;
	const char *unit = unit_of(side->length, &scale);
	bool used[BOX_KINDS] = {false};
	for (size_t i = 0; i < side->count; i++)
		used[side->boxes[i].kind] = true;
	fprintf(to,
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
	        "font-family=\"sans-serif\" font-size=\"12\">\n",
	        WIDTH, height, WIDTH, height);
	fputs("<style>\n.page{fill:#ffffff}.ink{fill:#1f2328}.faint{fill:#59636e}.lane{fill:#eff2f5}"
	      ".line{stroke:#d1d9e0}\n"
	      "@media (prefers-color-scheme:dark){.page{fill:#0d1117}.ink{fill:#f0f6fc}.faint{fill:#9198a1}"
	      ".lane{fill:#21262d}.line{stroke:#3d444d}}\n</style>\n",
	      to);
	fprintf(to, "<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n", WIDTH, height);
	fputs("<text class=\"ink\" x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">", to);
	put_text(to, step->what);
	fprintf(to, "%sstep %lld: %.4g %s, bubble %.1f %%</text>\n", step->what[0] != '\0' ? ", " : "",
	        (long long)step->step, side->length * scale, unit, side->bubble * 100);
	int x = 16;
	for (int k = 0; k < BOX_KINDS; k++) {
		if (!used[k])
			continue;
		fprintf(to,
		        "<rect x=\"%d\" y=\"40\" width=\"14\" height=\"14\" rx=\"2\" fill=\"%s\"/>"
		        "<text class=\"ink\" x=\"%d\" y=\"51\">%s %s</text>\n",
		        x, looks[k].fill, x + 19, k == BOX_TRANSFER ? "" : looks[k].name, looks[k].text);
		x += 40 + LETTER * (int)(strlen(looks[k].text) + strlen(looks[k].name));
	}
}

/* The label that fits: all of it, its numbers, or nothing. */
static const char *label_in(const trace_box *box, double width)
{
	const char *label = box->label, *numbers = label + strcspn(label, "0123456789");
	if (box->kind == BOX_TRANSFER)
		label = numbers;
	if ((double)strlen(label) * LETTER + 2 <= width)
		return label;
	return (double)strlen(numbers) * LETTER + 1 <= width ? numbers : "";
}

static void draw_box(const trace_box *box, double pixels, int y, int height, FILE *to)
{
	double scale, x = LEFT + box->begin * pixels;
	/* A sliver at least, so that short ones are seen. */
	double width = fmax((box->end - box->begin) * pixels, 0.75);
	const char *unit = unit_of(box->end, &scale), *label = label_in(box, width);
	fprintf(to, "<g><title>%s%s ", box->kind == BOX_TRANSFER ? "transfer of " : "", "");
	put_text(to, box->label);
	int digits = decimals(box->end * scale, 4);
	fprintf(to, ": %.*f to %.*f %s</title>", digits, box->begin * scale, digits, box->end * scale, unit);
	/* A gap of half a pixel parts boxes that touch. */
	fprintf(to, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\"/>", x, y,
	        width > 3 ? width - 0.5 : width, height, looks[box->kind].fill);
	if (label[0] != '\0') {
		fprintf(to, "<text x=\"%.2f\" y=\"%d\" text-anchor=\"middle\" font-size=\"%d\" fill=\"%s\">",
		        x + width / 2, y + height / 2 + 4, height < 20 ? 10 : 12, looks[box->kind].letter);
		put_text(to, label);
		fputs("</text>", to);
	}
	fputs("</g>\n", to);
}

static void draw_side(const trace_side *side, const char *heading, double pixels, double longest, int y, FILE *to)
{
	double scale;
	const char *unit = unit_of(longest, &scale);
	fprintf(to,
	        "<text class=\"faint\" x=\"16\" y=\"%d\">%s: %.4g %s, bubble %.1f %%</text>"
	        "<text class=\"faint\" x=\"%d\" y=\"%d\" text-anchor=\"end\">idle</text>\n",
	        y + 14, heading, side->length * scale, unit, side->bubble * 100, WIDTH - 16, y + 14);
	y += SIDE_HEAD;
	for (int r = 0; r < side->row_count; r++) {
		const trace_row *row = &side->rows[r];
		int height = row->link ? LINK_ROW : STAGE_ROW;
		double idle = fmax(0, side->length - row->busy);
		fputs("<text class=\"ink\" text-anchor=\"end\"", to);
		fprintf(to, " x=\"%d\" y=\"%d\">", LEFT - 10, y + height / 2 + 4);
		put_text(to, row->name);
		fprintf(to, "</text><rect class=\"lane\" x=\"%d\" y=\"%d\" width=\"%.2f\" height=\"%d\"/>\n", LEFT, y,
		        side->length * pixels, height);
		for (size_t i = 0; i < side->count; i++)
			if (side->boxes[i].row == r)
				draw_box(&side->boxes[i], pixels, y, height, to);
		fprintf(to, "<text class=\"ink\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%.*f %s, %.0f %%</text>\n",
		        WIDTH - 16, y + height / 2 + 4, decimals(longest * scale, 3), idle * scale, unit,
		        idle / side->length * 100);
		y += height + GAP;
	}
}

static void draw_axis(double longest, double pixels, int top, int y, FILE *to)
{
	double scale, tick = tick_of(longest);
	const char *unit = unit_of(longest, &scale);
	for (int i = 0; i * tick <= longest * (1 + 1e-9); i++) {
		double x = LEFT + i * tick * pixels;
		fprintf(to,
		        "<line class=\"line\" x1=\"%.2f\" y1=\"%d\" x2=\"%.2f\" y2=\"%d\"/>"
		        "<text class=\"faint\" x=\"%.2f\" y=\"%d\" text-anchor=\"middle\">%.4g%s%s</text>\n",
		        x, top, x, y + 4, x, y + 18, i * tick * scale, i == 0 ? " " : "", i == 0 ? unit : "");
	}
}

void trace_step_draw(const trace_step *step, bool predicted, FILE *to)
{
	double longest = fmax(step->measured.length, predicted ? step->predicted.length : 0);
	longest = longest > 0 ? longest : 1e-9;
	double pixels = (WIDTH - LEFT - RIGHT) / longest;
	int bottom = HEAD + side_height(&step->measured) + (predicted ? side_height(&step->predicted) : 0);
	draw_head(step, bottom + AXIS, to);
	draw_axis(longest, pixels, HEAD + SIDE_HEAD - 4, bottom, to);
	draw_side(&step->measured, "measured", pixels, longest, HEAD, to);
	if (predicted)
		draw_side(&step->predicted, "predicted", pixels, longest, HEAD + side_height(&step->measured), to);
	fputs("</svg>\n", to);
}

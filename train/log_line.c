/* The log lines of PyTorch's pipeline tutorial; docs/tutorial.md gives the formats. */
#include <penstock/train.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* exp() is infinite, not an error, above 709.78. */
static double perplexity(double loss)
{
	return exp(loss);
}

const char *ps_window_line(const ps_window_report *report, char *text)
{
	snprintf(text, PS_LINE_BYTES,
	         "| epoch %3d | %5" PRId64 "/%5" PRId64
	         " batches | lr %02.2f | ms/batch %5.2f | loss %5.2f | ppl %8.2f",
	         report->epoch, report->batch, report->batches, report->lr, report->ms_per_batch, report->loss,
	         perplexity(report->loss));
	return text;
}

const char *ps_eval_line(const ps_eval_report *report, char *text)
{
	if (report->split == PS_SPLIT_TEST)
		snprintf(text, PS_LINE_BYTES, "| End of training | test loss %5.2f | test ppl %8.2f", report->loss,
		         perplexity(report->loss));
	else
		snprintf(text, PS_LINE_BYTES, "| end of epoch %3d | time: %5.2fs | valid loss %5.2f | valid ppl %8.2f",
		         report->epoch, report->seconds, report->loss, perplexity(report->loss));
	return text;
}

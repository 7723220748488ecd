/* The exact minimax cut of a row of costs: dynamic programming over the number of parts. */
#include <penstock/pipeline.h>

#include <float.h>
#include <stdlib.h>

/*
 * best[k][n]: the least possible largest sum when the first n costs are cut into k + 1 runs. Without memory for the
 * table the cut is even by number, which is still a valid one.
 */
void ps_balance(const double *costs, int count, int parts, int *sizes)
{
	size_t width = (size_t)count + 1;
	double *best = malloc((size_t)parts * width * sizeof *best);
	int *cut = malloc((size_t)parts * width * sizeof *cut);
	double *prefix = malloc(width * sizeof *prefix);
	if (!best || !cut || !prefix) {
		for (int k = 0; k < parts; k++)
			sizes[k] = count / parts + (k < count % parts);
		goto out;
	}
	prefix[0] = 0;
	for (int n = 0; n < count; n++)
		prefix[n + 1] = prefix[n] + costs[n];
	for (int k = 0; k < parts; k++) {
		for (int n = k + 1; n <= count; n++) {
			double least = k == 0 ? prefix[n] : DBL_MAX;
			int where = 0;
			for (int c = k; k > 0 && c < n; c++) {
				double before = best[(size_t)(k - 1) * width + (size_t)c];
				double last = prefix[n] - prefix[c];
				double largest = before > last ? before : last;
				if (largest < least) {
					least = largest;
					where = c;
				}
			}
			best[(size_t)k * width + (size_t)n] = least;
			cut[(size_t)k * width + (size_t)n] = where;
		}
	}
	for (int k = parts - 1, n = count; k >= 0; k--) {
		int from = k ? cut[(size_t)k * width + (size_t)n] : 0;
		sizes[k] = n - from;
		n = from;
	}
out:
	free(prefix);
	free(cut);
	free(best);
}

/* The exact minimax cut of a row of costs: dynamic programming over the number of parts, in parts * count steps. */
#include <penstock/pipeline.h>

#include <math.h>
#include <stdlib.h>

/*
 * best[k * width + n]: the least possible largest sum when the first n costs are cut into k + 1 runs; cut: where the
 * last of them begins. With the place c of the last cut, the best of what is before it rises and the sum behind it
 * falls, so that the best c is where they cross, and the crossing moves up with n.
 */
static void fill(const double *prefix, int count, int parts, double *best, int *cut)
{
	size_t width = (size_t)count + 1;
	for (int n = 1; n <= count; n++) {
		best[n] = prefix[n];
		cut[n] = 0;
	}
	for (int k = 1; k < parts; k++) {
		const double *before = best + (size_t)(k - 1) * width;
		int c = k;
		for (int n = k + 1; n <= count; n++) {
			while (c < n - 1 && before[c] < prefix[n] - prefix[c])
				c++;
			int at = c;
			double largest = fmax(before[c], prefix[n] - prefix[c]);
			if (c > k && prefix[n] - prefix[c - 1] <= largest) {
				at = c - 1;
				largest = prefix[n] - prefix[c - 1];
			}
			best[(size_t)k * width + (size_t)n] = largest;
			cut[(size_t)k * width + (size_t)n] = at;
		}
	}
}

void ps_balance(const double *costs, int count, int parts, int *sizes)
{
	size_t width = (size_t)count + 1;
	double *best = malloc((size_t)parts * width * sizeof *best);
	int *cut = calloc((size_t)parts * width, sizeof *cut);
	double *prefix = malloc(width * sizeof *prefix);
	if (!best || !cut || !prefix) {
		/* Without memory for the table the cut is even by number, which is still a valid one. */
		for (int k = 0; k < parts; k++)
			sizes[k] = count / parts + (k < count % parts);
		goto out;
	}
	prefix[0] = 0;
	for (int n = 0; n < count; n++)
		prefix[n + 1] = prefix[n] + costs[n];
	fill(prefix, count, parts, best, cut);
	for (int k = parts - 1, n = count; k >= 0; k--) {
		int from = cut[(size_t)k * width + (size_t)n];
		sizes[k] = n - from;
		n = from;
	}
out:
	free(prefix);
	free(cut);
	free(best);
}

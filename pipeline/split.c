/* How the rows of a batch are cut into micro-batches. */
#include <penstock/schedule.h>

int ps_split_rows(ps_split_rule rule, int64_t rows, int chunks, int64_t *sizes)
{
	if (rows < 1 || chunks < 1)
		return 0;
	if (rule == PS_SPLIT_TORCH) {
		int64_t each = rows / chunks + (rows % chunks != 0);
		int count = 0;
		for (int64_t left = rows; left > 0; left -= each)
			sizes[count++] = left < each ? left : each;
		return count;
	}
	int count = rows < chunks ? (int)rows : chunks;
	for (int i = 0; i < count; i++)
		sizes[i] = rows / count + (i < rows % count);
	return count;
}

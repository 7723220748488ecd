/* What the ways to make a corpus share. */
#ifndef PENSTOCK_DATA_CORPUS_H
#define PENSTOCK_DATA_CORPUS_H

#include "data/vocabulary.h"

#include <penstock/data.h>

typedef struct ps__split {
	char *path; /* NULL for the sample corpus */
	int32_t *tokens;
	size_t count;
	uint64_t bytes;
	uint64_t lines;
} ps__split;

struct ps_corpus {
	ps__split splits[PS_SPLIT_COUNT];
	ps__words words;
	double entropy;
};

/* Each fills a zeroed corpus; on failure the caller closes what there is of it. */
ps_status ps__corpus_read(ps_corpus *corpus, const char *folder, const char *cache_dir);
ps_status ps__corpus_generate(ps_corpus *corpus, const ps_corpus_options *options);

#endif

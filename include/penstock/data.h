/*
 * Text to train on: corpora, batches, and the download of published ones.
 *
 * A corpus is three splits of token ids and one vocabulary. It comes from a folder with wiki.train.tokens,
 * wiki.valid.tokens and wiki.test.tokens, or from the built-in generator ("sample"), whose entropy is known. Text is
 * split into words as torchtext's `basic_english` does: lower case (Unicode, as Python's str.lower), then in this
 * order ' spaced, " removed, . spaced, <br /> to a space, , ( ) ! ? spaced, ; : to a space; then split on white space.
 *
 * The vocabulary is that of the training split: <unk> is word 0, the others follow by falling count, equal counts in
 * code-point order. A word of another split that the training split lacks becomes word 0.
 *
 * Text must be UTF-8 without NUL bytes. Anything else is refused with file, line and column (PS_EFORMAT), since it is
 * most often another file than the one that was meant.
 */
#ifndef PENSTOCK_DATA_H
#define PENSTOCK_DATA_H

#include <penstock/status.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ps_split { PS_SPLIT_TRAIN, PS_SPLIT_VALID, PS_SPLIT_TEST, PS_SPLIT_COUNT } ps_split;

/* "train", "valid" or "test". */
const char *ps_split_name(ps_split split);

typedef struct ps_corpus ps_corpus;

/* A zeroed struct asks for the defaults. The sample_… fields matter for the corpus "sample" alone. */
typedef struct ps_corpus_options {
	/*
	 * The folder that keeps token ids between runs. NULL: $XDG_CACHE_HOME/penstock, else ~/.cache/penstock. "": no
	 * cache. A cache that is stale, damaged or cannot be written is passed over in silence.
	 */
	const char *cache_dir;
	uint64_t sample_seed;
	size_t sample_tokens[PS_SPLIT_COUNT]; /* 0: PS_SAMPLE_TRAIN_TOKENS for train, PS_SAMPLE_OTHER_TOKENS else */
	int sample_vocabulary;                /* 0: PS_SAMPLE_VOCABULARY */
} ps_corpus_options;

#define PS_SAMPLE_TRAIN_TOKENS 1000000
#define PS_SAMPLE_OTHER_TOKENS 50000
#define PS_SAMPLE_VOCABULARY 400
#define PS_SAMPLE_VOCABULARY_MIN 100
#define PS_SAMPLE_VOCABULARY_MAX 3000
#define PS_SAMPLE_TOKENS_MAX 1000000000

/*
 * Opens the corpus in the folder `where`, or the built-in one when `where` is "sample" ("./sample" is a folder).
 * `options` may be NULL. Errors: PS_ENOENT (folder or a split is missing), PS_EINVAL (not a folder, not a readable
 * file, an option out of range), PS_EFORMAT (empty, no UTF-8, NUL bytes), PS_ENOMEM, PS_EIO.
 */
ps_status ps_corpus_open(ps_corpus **out, const char *where, const ps_corpus_options *options);

/* Takes NULL. */
void ps_corpus_close(ps_corpus *corpus);

/* The token ids of a split, borrowed until the corpus is closed; each is in [0, ps_corpus_vocabulary). */
const int32_t *ps_corpus_tokens(const ps_corpus *corpus, ps_split split, size_t *count);

/* The number of words, <unk> included. */
int32_t ps_corpus_vocabulary(const ps_corpus *corpus);

/* The word of an id in [0, ps_corpus_vocabulary), borrowed; NULL for any other id. */
const char *ps_corpus_word(const ps_corpus *corpus, int32_t id);

/* The source's entropy rate in nats per token; NaN when it is not known, as for any text from files. */
double ps_corpus_entropy(const ps_corpus *corpus);

/* What a split was made from. For the sample corpus, path is NULL and bytes and lines are those of its text form. */
typedef struct ps_split_info {
	const char *path; /* borrowed from the corpus */
	uint64_t bytes;
	uint64_t lines; /* a last line without a line feed counts */
	size_t tokens;
	size_t unknown; /* how many tokens are <unk> */
} ps_split_info;

ps_split_info ps_corpus_split_info(const ps_corpus *corpus, ps_split split);

/*
 * One split laid out in `columns` equal runs of `length` tokens; the rest is left out. Column c, row i is
 * tokens[c * length + i], as batchify() of PyTorch's tutorial lays them out. `tokens` is borrowed.
 */
typedef struct ps_batches {
	const int32_t *tokens;
	int64_t columns; /* the batch size */
	int64_t length;  /* rows: tokens in each column */
	int64_t bptt;    /* the most time steps in a batch */
} ps_batches;

/* PS_EINVAL when batch_size or bptt is less than 1 or a column would have fewer than two tokens. */
ps_status ps_batches_init(ps_batches *out, const int32_t *tokens, size_t count, int64_t batch_size, int64_t bptt);

/* Batches in one pass: one for each i in range(0, length - 1, bptt). */
int64_t ps_batches_count(const ps_batches *batches);

/*
 * Batch `index` of a pass: inputs and targets are (columns, *time), batch-first, with *time <= bptt, and targets hold
 * the successor of each input. Both arrays have room for columns * bptt ids. PS_EINVAL for an index past the end.
 */
ps_status ps_batches_get(const ps_batches *batches, int64_t index, int32_t *inputs, int32_t *targets, int64_t *time);

/*
 * The same with the published tutorial's targets: flattened time-major while the predictions are flattened
 * batch-major, so that targets[k] is the k-th successor in time-major order and does not belong to inputs[k].
 */
ps_status ps_batches_get_as_published(const ps_batches *batches, int64_t index, int32_t *inputs, int32_t *targets,
                                      int64_t *time);

/* One file that an archive must hold. */
typedef struct ps_fetch_file {
	const char *name; /* its last path component, also the name it gets */
	uint64_t bytes;
	const char *sha256; /* 64 lower-case hex digits */
} ps_fetch_file;

/* A published data set: where its archive is and what must come out of it. */
typedef struct ps_fetch_source {
	const char *name;
	const char *url;
	const char *archive; /* the archive's file name; the download is kept as this name + ".part" until it is done */
	uint64_t bytes;      /* of the archive; 0: not known */
	const char *md5;     /* 32 lower-case hex digits, or NULL */
	const char *sha256;  /* 64 lower-case hex digits, or NULL */
	const ps_fetch_file *files;
	size_t file_count;
} ps_fetch_source;

/* A known data set ("wikitext-2"), or NULL. */
const ps_fetch_source *ps_fetch_source_find(const char *name);

/* The known data sets one by one; NULL past the end. */
const ps_fetch_source *ps_fetch_source_at(size_t index);

/* Called with the bytes here so far and the bytes in all (0: not known); returns 0 to go on, anything else to stop. */
typedef int (*ps_fetch_progress)(void *user, uint64_t done, uint64_t total);

typedef struct ps_fetch_options {
	const char *url;            /* in place of the source's; NULL: the source's */
	int stall_seconds;          /* give up when next to nothing came for this long; 0: 30 */
	int connect_seconds;        /* give up when no connection was made for this long; 0: 15 */
	int attempts;               /* tries after a broken transfer, each going on where the last ended; 0: 3 */
	ps_fetch_progress progress; /* may be NULL */
	void *user;
} ps_fetch_options;

/*
 * Downloads, checks and unpacks `source` into the folder `to`, which is made when it is missing. Files appear under
 * their names only whole and checked; a broken download leaves ARCHIVE.part, from which the next call goes on. Does
 * nothing when all files are there already. `options` may be NULL. Errors: PS_EINVAL (address or folder is wrong),
 * PS_EIO (network, server or disk, or what came is not what was published), PS_ESTALL (the server fell silent).
 */
ps_status ps_data_fetch(const ps_fetch_source *source, const char *to, const ps_fetch_options *options);

#ifdef __cplusplus
}
#endif
#endif

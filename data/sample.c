/* The built-in corpus: text of known entropy from a small grammar; docs/sample-corpus.md describes it. */
#include "data/sample.h"

#include "data/corpus.h"

#include <penstock/random.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIRST_WORD = PS__SAMPLE_TOPIC0 + PS__SAMPLE_TOPICS,
	WORDS_IN_CLASS = 8,
	/* The layer number that stands for this corpus in random places, and its sites. */
	RANDOM_LAYER = 0xFFFFFF,
	SITE_SUCCESSORS = 0,
	SITE_TEXT = 1
};

static int32_t class_of(const ps__sample *sample, int32_t word)
{
	return word % sample->classes;
}

/* Successor k has a weight of 1/(k+1); what rounding leaves over goes to the first. */
static void set_shares(ps__sample *sample)
{
	const uint64_t one = UINT64_C(1) << 32;
	const uint64_t common = 720720; /* a multiple of 1 to 16 */
	sample->stop_share = (uint32_t)(one / 12);
	sample->favourite_share = (uint32_t)(one * 11 / 100) & ~(uint32_t)(PS__SAMPLE_FAVOURITES - 1);
	uint64_t rest = one - sample->stop_share - sample->favourite_share;
	uint64_t weights = 0;
	for (uint64_t k = 1; k <= PS__SAMPLE_SUCCESSORS; k++)
		weights += common / k;
	uint64_t given = 0;
	for (uint64_t k = 1; k <= PS__SAMPLE_SUCCESSORS; k++) {
		sample->shares[k - 1] = (uint32_t)(rest * (common / k) / weights);
		given += sample->shares[k - 1];
	}
	sample->shares[0] += (uint32_t)(rest - given);
}

/* Draws the successors of a class: no word twice, low numbers more often (density 1 / (2 sqrt x)). */
static void draw_successors(const ps__sample *sample, int32_t class, const ps_random_place *place)
{
	int32_t *successors = sample->successors[class];
	uint64_t words = (uint64_t)(sample->vocabulary - FIRST_WORD);
	for (int k = 0; k < PS__SAMPLE_SUCCESSORS; k++) {
		uint64_t draw = ps_random_word(place, (uint32_t) class, (uint64_t)k);
		int32_t word = (int32_t)((draw * draw >> 32) * words >> 32);
		for (int i = 0; i < k; i++) {
			if (successors[i] == FIRST_WORD + word) {
				word = (int32_t)(((uint64_t)word + 1) % words);
				i = -1;
			}
		}
		successors[k] = FIRST_WORD + word;
	}
}

ps_status ps__sample_init(ps__sample *sample, uint64_t seed, int vocabulary)
{
	*sample = (ps__sample){0};
	if (vocabulary < PS_SAMPLE_VOCABULARY_MIN || vocabulary > PS_SAMPLE_VOCABULARY_MAX)
		return ps_fail(PS_EINVAL, "a sample corpus of %d words was asked for; it can have %d to %d", vocabulary,
		               PS_SAMPLE_VOCABULARY_MIN, PS_SAMPLE_VOCABULARY_MAX);
	sample->seed = seed;
	sample->vocabulary = vocabulary;
	sample->classes = vocabulary / WORDS_IN_CLASS;
	sample->successors = malloc((size_t)sample->classes * sizeof *sample->successors);
	if (sample->successors == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the sample corpus");
	set_shares(sample);
	ps_random_place place = {.seed = seed, .layer = RANDOM_LAYER, .site = SITE_SUCCESSORS};
	for (int32_t class = 0; class < sample->classes; class ++)
		draw_successors(sample, class, &place);
	const int favourites = PS__SAMPLE_TOPICS * PS__SAMPLE_FAVOURITES;
	for (int i = 0; i < favourites; i++)
		sample->favourites[i / PS__SAMPLE_FAVOURITES][i % PS__SAMPLE_FAVOURITES] =
		        FIRST_WORD + i * (vocabulary - FIRST_WORD) / favourites;
	return PS_OK;
}

void ps__sample_finish(ps__sample *sample)
{
	free(sample->successors);
	*sample = (ps__sample){0};
}

double ps__sample_probability(const ps__sample *sample, int topic, int32_t word, int32_t next)
{
	if (word == PS__SAMPLE_STOP)
		return next >= PS__SAMPLE_TOPIC0 && next < FIRST_WORD ? 1.0 / PS__SAMPLE_TOPICS : 0.0;
	uint64_t share = next == PS__SAMPLE_STOP ? sample->stop_share : 0;
	for (int i = 0; i < PS__SAMPLE_FAVOURITES; i++) {
		if (sample->favourites[topic][i] == next)
			share += sample->favourite_share / PS__SAMPLE_FAVOURITES;
	}
	const int32_t *successors = sample->successors[class_of(sample, word)];
	for (int k = 0; k < PS__SAMPLE_SUCCESSORS; k++) {
		if (successors[k] == next)
			share += sample->shares[k];
	}
	return (double)share / 4294967296.0;
}

/* -p ln p summed over all that can follow a word of `class` in a sentence of `topic`. */
static double row_entropy(const ps__sample *sample, int topic, int32_t class)
{
	int32_t next[1 + PS__SAMPLE_FAVOURITES + PS__SAMPLE_SUCCESSORS] = {PS__SAMPLE_STOP};
	memcpy(next + 1, sample->favourites[topic], sizeof sample->favourites[topic]);
	memcpy(next + 1 + PS__SAMPLE_FAVOURITES, sample->successors[class], sizeof sample->successors[class]);
	double entropy = 0;
	for (size_t i = 0; i < sizeof next / sizeof *next; i++) {
		int seen = 0;
		for (size_t k = 0; k < i; k++)
			seen |= next[k] == next[i];
		if (seen)
			continue;
		/* Classes repeat, so that some word of every class is past the topic words. */
		double p = ps__sample_probability(sample, topic, class + sample->classes, next[i]);
		entropy -= p * log(p);
	}
	return entropy;
}

/*
 * Moves the expected number of visits one token on inside a sentence of `topic`: visits and next are (vocabulary).
 * Returns how many are left that have not met the stop.
 */
static double advance(const ps__sample *sample, int topic, const double *visits, double *next, double *class_visits)
{
	const double one = 4294967296.0;
	double all = 0;
	for (int32_t class = 0; class < sample->classes; class ++)
		class_visits[class] = 0;
	for (int32_t word = 0; word < sample->vocabulary; word++) {
		class_visits[class_of(sample, word)] += visits[word];
		all += visits[word];
		next[word] = 0;
	}
	for (int i = 0; i < PS__SAMPLE_FAVOURITES; i++)
		next[sample->favourites[topic][i]] += all * sample->favourite_share / one / PS__SAMPLE_FAVOURITES;
	for (int32_t class = 0; class < sample->classes; class ++) {
		for (int k = 0; k < PS__SAMPLE_SUCCESSORS; k++)
			next[sample->successors[class][k]] += class_visits[class] * sample->shares[k] / one;
	}
	return all * (1 - sample->stop_share / one);
}

/*
 * A sentence is an excursion from the stop, so that the stationary distribution over (topic, word) is in proportion to
 * the expected visits in one sentence; the rate is the entropy drawn in a sentence over its expected length.
 */
ps_status ps__sample_entropy(const ps__sample *sample, double *entropy)
{
	size_t words = (size_t)sample->vocabulary;
	double *memory = malloc((2 * words + 2 * (size_t)sample->classes) * sizeof *memory);
	if (memory == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the sample corpus");
	double *class_visits = memory + 2 * words;
	double *row = class_visits + sample->classes;
	double drawn = log(PS__SAMPLE_TOPICS); /* at the stop itself */
	double length = 1;
	for (int topic = 0; topic < PS__SAMPLE_TOPICS; topic++) {
		double *visits = memory;
		double *next = memory + words;
		for (int32_t class = 0; class < sample->classes; class ++)
			row[class] = row_entropy(sample, topic, class);
		for (size_t i = 0; i < words; i++)
			visits[i] = 0;
		visits[PS__SAMPLE_TOPIC0 + topic] = 1.0 / PS__SAMPLE_TOPICS;
		for (double left = 1; left > 1e-18;) {
			left = advance(sample, topic, visits, next, class_visits);
			for (int32_t class = 0; class < sample->classes; class ++) {
				drawn += class_visits[class] * row[class];
				length += class_visits[class];
			}
			double *swap = visits;
			visits = next;
			next = swap;
		}
	}
	free(memory);
	*entropy = drawn / length;
	return PS_OK;
}

/* The word that a draw gives inside a sentence. */
static int32_t next_word(const ps__sample *sample, int topic, int32_t word, uint32_t draw)
{
	if (draw < sample->stop_share)
		return PS__SAMPLE_STOP;
	draw -= sample->stop_share;
	if (draw < sample->favourite_share)
		return sample->favourites[topic][draw / (sample->favourite_share / PS__SAMPLE_FAVOURITES)];
	draw -= sample->favourite_share;
	int k = 0;
	while (draw >= sample->shares[k])
		draw -= sample->shares[k++];
	return sample->successors[class_of(sample, word)][k];
}

void ps__sample_generate(const ps__sample *sample, ps_split split, int32_t *tokens, size_t count)
{
	ps_random_place place = {.seed = sample->seed, .layer = RANDOM_LAYER, .site = SITE_TEXT + (uint32_t)split};
	uint32_t draws[4] = {0};
	int32_t word = PS__SAMPLE_STOP;
	int topic = 0;
	for (size_t i = 0; i < count; i++) {
		if (i % 4 == 0)
			ps_random_block(&place, 0, (uint32_t)(i / 4), draws);
		uint32_t draw = draws[i % 4];
		if (word == PS__SAMPLE_STOP) {
			topic = (int)(draw >> 30); /* one of four */
			word = PS__SAMPLE_TOPIC0 + topic;
		} else {
			word = next_word(sample, topic, word, draw);
		}
		tokens[i] = word;
	}
}

void ps__sample_word(int32_t id, char word[PS__SAMPLE_WORD_BYTES])
{
	static const char first[] = "bdfghklmnprstvwz";
	static const char second[] = "dlnrstvw";
	static const char vowels[] = "aeiou";
	if (id <= PS__SAMPLE_STOP) {
		memcpy(word, id == 0 ? "<unk>" : ".", id == 0 ? sizeof "<unk>" : sizeof ".");
		return;
	}
	/* There are 80 * 40 = 3200 words; a factor without a common divisor mixes them. */
	int n = (int)((int64_t)id * 1237 % 3200);
	word[0] = first[n / 40 / 5];
	word[1] = vowels[n / 40 % 5];
	word[2] = second[n % 40 / 5];
	word[3] = vowels[n % 5];
	word[4] = '\0';
}

static ps_status make_words(const ps__sample *sample, ps__words *words)
{
	size_t count = (size_t)sample->vocabulary;
	words->bytes = malloc(count * PS__SAMPLE_WORD_BYTES);
	words->starts = malloc(count * sizeof *words->starts);
	if (words->bytes == NULL || words->starts == NULL)
		return ps_fail(PS_ENOMEM, "no memory for the sample corpus");
	words->count = sample->vocabulary;
	for (int32_t id = 0; id < sample->vocabulary; id++) {
		words->starts[id] = words->size;
		ps__sample_word(id, words->bytes + words->size);
		words->size += strlen(words->bytes + words->size) + 1;
	}
	return PS_OK;
}

/* Fills one split; a line of its text form is a sentence, words stand a space apart. */
static ps_status make_split(const ps__sample *sample, ps_split which, size_t count, const ps__words *words,
                            ps__split *split)
{
	if (count == 0)
		count = which == PS_SPLIT_TRAIN ? PS_SAMPLE_TRAIN_TOKENS : PS_SAMPLE_OTHER_TOKENS;
	if (count > PS_SAMPLE_TOKENS_MAX)
		return ps_fail(PS_EINVAL, "a sample corpus with %zu tokens in %s was asked for; it can have %d", count,
		               ps_split_name(which), PS_SAMPLE_TOKENS_MAX);
	split->tokens = malloc(count * sizeof *split->tokens);
	if (split->tokens == NULL)
		return ps_fail(PS_ENOMEM, "no memory for %zu tokens of the sample corpus", count);
	split->count = count;
	ps__sample_generate(sample, which, split->tokens, count);
	for (size_t i = 0; i < count; i++) {
		size_t id = (size_t)split->tokens[i];
		size_t end = id + 1 < (size_t)words->count ? words->starts[id + 1] : words->size;
		/* Every id has a start. NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
		split->bytes += end - words->starts[id];
		split->lines += id == PS__SAMPLE_STOP;
	}
	split->lines += split->tokens[count - 1] != PS__SAMPLE_STOP;
	return PS_OK;
}

ps_status ps__corpus_generate(ps_corpus *corpus, const ps_corpus_options *options)
{
	int vocabulary = options->sample_vocabulary != 0 ? options->sample_vocabulary : PS_SAMPLE_VOCABULARY;
	ps__sample sample;
	PS_TRY(ps__sample_init(&sample, options->sample_seed, vocabulary));
	ps_status status = make_words(&sample, &corpus->words);
	for (int i = 0; status == PS_OK && i < PS_SPLIT_COUNT; i++)
		status =
		        make_split(&sample, (ps_split)i, options->sample_tokens[i], &corpus->words, &corpus->splits[i]);
	if (status == PS_OK)
		status = ps__sample_entropy(&sample, &corpus->entropy);
	ps__sample_finish(&sample);
	return status;
}

/* The sample corpus: its probabilities, its entropy, and that it is the same everywhere. */
#include "data/sample.h"

#include <penstock/data.h>

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ps_corpus *open_sample(const ps_corpus_options *options)
{
	ps_corpus *corpus = NULL;
	ck_assert_msg(ps_corpus_open(&corpus, "sample", options) == PS_OK, "%s", ps_error_message());
	return corpus;
}

START_TEST(probabilities_sum_to_one)
{
	ps__sample sample;
	ck_assert_int_eq(ps__sample_init(&sample, 7, PS_SAMPLE_VOCABULARY), PS_OK);
	for (int topic = 0; topic < PS__SAMPLE_TOPICS; topic++) {
		for (int32_t word = 1; word < sample.vocabulary; word++) {
			double sum = 0;
			for (int32_t next = 0; next < sample.vocabulary; next++)
				sum += ps__sample_probability(&sample, topic, word, next);
			if (sum != 1 || ps__sample_probability(&sample, topic, word, 0) != 0)
				ck_abort_msg("topic %d, word %d: %.17g", topic, (int)word, sum);
		}
	}
	ps__sample_finish(&sample);
}
END_TEST

/* Mean of -ln p over a text under the true source. */
static double cross_entropy(const ps__sample *sample, const int32_t *tokens, size_t count, double *deviation)
{
	double sum = 0;
	double squares = 0;
	int32_t word = PS__SAMPLE_STOP;
	int topic = 0;
	for (size_t i = 0; i < count; i++) {
		double p = ps__sample_probability(sample, topic, word, tokens[i]);
		if (p <= 0)
			ck_abort_msg("token %zu is impossible", i);
		sum -= log(p);
		squares += log(p) * log(p);
		if (word == PS__SAMPLE_STOP)
			topic = tokens[i] - PS__SAMPLE_TOPIC0;
		word = tokens[i];
	}
	double mean = sum / (double)count;
	*deviation = sqrt((squares / (double)count - mean * mean) / (double)count);
	return mean;
}

/* Four standard deviations are met by chance once in 16,000 times, and the seeds are fixed. */
START_TEST(entropy_is_that_of_the_text)
{
	static const struct {
		uint64_t seed;
		int vocabulary;
	} rows[] = {{0, PS_SAMPLE_VOCABULARY}, {1, PS_SAMPLE_VOCABULARY_MIN}, {99, 1000}};
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
		ps_corpus_options options = {.sample_seed = rows[r].seed, .sample_vocabulary = rows[r].vocabulary};
		ps_corpus *corpus = open_sample(&options);
		ps__sample sample;
		ck_assert_int_eq(ps__sample_init(&sample, rows[r].seed, rows[r].vocabulary), PS_OK);
		size_t count = 0;
		const int32_t *tokens = ps_corpus_tokens(corpus, PS_SPLIT_TRAIN, &count);
		ck_assert_uint_eq(count, PS_SAMPLE_TRAIN_TOKENS);
		double deviation = 0;
		double mean = cross_entropy(&sample, tokens, count, &deviation);
		double entropy = ps_corpus_entropy(corpus);
		ck_assert_msg(fabs(mean - entropy) < 4 * deviation, "seed %d: entropy %.9f, text %.9f +- %.9f",
		              (int)rows[r].seed, entropy, mean, deviation);
		ps__sample_finish(&sample);
		ps_corpus_close(corpus);
	}
}
END_TEST

/* The same rate from the definition: a dense chain over (topic, word), its stationary distribution by iteration. */
START_TEST(entropy_is_that_of_the_chain)
{
	ps__sample sample;
	ck_assert_int_eq(ps__sample_init(&sample, 3, PS_SAMPLE_VOCABULARY_MIN), PS_OK);
	enum { WORDS = PS_SAMPLE_VOCABULARY_MIN, STATES = PS__SAMPLE_TOPICS * WORDS };
	double(*chain)[STATES] = calloc(STATES, sizeof *chain);
	double *now = calloc(STATES, sizeof *now);
	double *next = calloc(STATES, sizeof *next);
	ck_assert(chain != NULL && now != NULL && next != NULL);
	for (int topic = 0; topic < PS__SAMPLE_TOPICS; topic++) {
		for (int32_t word = 1; word < WORDS; word++) {
			for (int32_t to = 1; to < WORDS; to++) {
				int32_t to_topic = word == PS__SAMPLE_STOP ? to - PS__SAMPLE_TOPIC0 : topic;
				if (word == PS__SAMPLE_STOP && (to_topic < 0 || to_topic >= PS__SAMPLE_TOPICS))
					continue;
				chain[topic * WORDS + word][to_topic * WORDS + to] =
				        ps__sample_probability(&sample, topic, word, to);
			}
		}
	}
	now[PS__SAMPLE_STOP] = 1;
	for (int round = 0; round < 600; round++) {
		for (int i = 0; i < STATES; i++)
			next[i] = 0;
		for (int i = 0; i < STATES; i++) {
			for (int k = 0; now[i] > 0 && k < STATES; k++)
				next[k] += now[i] * chain[i][k];
		}
		/* The mean of two rounds has no period. */
		for (int i = 0; i < STATES; i++)
			now[i] = (now[i] + next[i]) / 2;
	}
	double rate = 0;
	for (int i = 0; i < STATES; i++) {
		for (int k = 0; k < STATES; k++)
			rate -= chain[i][k] > 0 ? now[i] * chain[i][k] * log(chain[i][k]) : 0;
	}
	double entropy = 0;
	ck_assert_int_eq(ps__sample_entropy(&sample, &entropy), PS_OK);
	ck_assert_msg(fabs(entropy - rate) < 1e-9, "%.15f, by the chain %.15f", entropy, rate);
	free(chain);
	free(now);
	free(next);
	ps__sample_finish(&sample);
}
END_TEST

/* The first words of the default corpus, which must never change, and those of the other splits and another seed. */
START_TEST(same_everywhere)
{
	static const char expected[] = "tevu kasi towo nanu fero redu kiso wewu zolo deve rowe zete";
	ps_corpus *corpus = open_sample(NULL);
	size_t count = 0;
	const int32_t *tokens = ps_corpus_tokens(corpus, PS_SPLIT_TRAIN, &count);
	char text[128] = "";
	for (int i = 0; i < 12; i++) {
		strcat(text, i > 0 ? " " : "");
		strcat(text, ps_corpus_word(corpus, tokens[i]));
	}
	ck_assert_str_eq(text, expected);
	ck_assert_msg(fabs(ps_corpus_entropy(corpus) - 2.63849) < 1e-5, "%.17g", ps_corpus_entropy(corpus));
	size_t other_count = 0;
	const int32_t *other = ps_corpus_tokens(corpus, PS_SPLIT_VALID, &other_count);
	ck_assert_uint_eq(other_count, PS_SAMPLE_OTHER_TOKENS);
	ck_assert_mem_ne(tokens, other, 100 * sizeof *tokens);
	ps_corpus_options options = {.sample_seed = 1, .sample_tokens = {1000, 1, 77}};
	ps_corpus *seeded = open_sample(&options);
	const int32_t *more = ps_corpus_tokens(seeded, PS_SPLIT_TRAIN, &count);
	ck_assert_uint_eq(count, 1000);
	ck_assert_mem_ne(tokens, more, 100 * sizeof *tokens);
	(void)ps_corpus_tokens(seeded, PS_SPLIT_TEST, &count);
	ck_assert_uint_eq(count, 77);
	ps_corpus_close(seeded);
	ps_corpus_close(corpus);
}
END_TEST

START_TEST(words_differ)
{
	char words[PS_SAMPLE_VOCABULARY_MAX][PS__SAMPLE_WORD_BYTES];
	for (int32_t id = 0; id < PS_SAMPLE_VOCABULARY_MAX; id++) {
		ps__sample_word(id, words[id]);
		for (int32_t before = 0; before < id; before++) {
			if (strcmp(words[before], words[id]) == 0)
				ck_abort_msg("%d and %d are both %s", (int)before, (int)id, words[id]);
		}
	}
}
END_TEST

/* The text form that split_info speaks of. */
START_TEST(split_info)
{
	ps_corpus *corpus = open_sample(NULL);
	for (int s = 0; s < PS_SPLIT_COUNT; s++) {
		size_t count = 0;
		const int32_t *tokens = ps_corpus_tokens(corpus, (ps_split)s, &count);
		ps_split_info info = ps_corpus_split_info(corpus, (ps_split)s);
		uint64_t bytes = 0;
		uint64_t lines = 0;
		for (size_t i = 0; i < count; i++) {
			bytes += strlen(ps_corpus_word(corpus, tokens[i])) + 1;
			lines += tokens[i] == PS__SAMPLE_STOP || i + 1 == count;
		}
		ck_assert_ptr_null(info.path);
		ck_assert_uint_eq(info.bytes, bytes);
		ck_assert_uint_eq(info.lines, lines);
		ck_assert_uint_eq(info.tokens, count);
		ck_assert_uint_eq(info.unknown, 0);
	}
	ck_assert_ptr_null(ps_corpus_word(corpus, -1));
	ck_assert_ptr_null(ps_corpus_word(corpus, ps_corpus_vocabulary(corpus)));
	ps_corpus_close(corpus);
}
END_TEST

START_TEST(refused)
{
	static const ps_corpus_options wrong[] = {
	        {.sample_vocabulary = PS_SAMPLE_VOCABULARY_MIN - 1},
	        {.sample_vocabulary = PS_SAMPLE_VOCABULARY_MAX + 1},
	        {.sample_vocabulary = -5},
	        {.sample_tokens = {0, 0, (size_t)PS_SAMPLE_TOKENS_MAX + 1}},
	};
	ps_corpus *present = open_sample(NULL);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		ps_corpus *corpus = present;
		ck_assert_int_eq(ps_corpus_open(&corpus, "sample", &wrong[i]), PS_EINVAL);
		ck_assert_ptr_null(corpus);
	}
	ps_corpus_close(present);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sample");
	TCase *cases = tcase_create("sample");
	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, probabilities_sum_to_one);
	tcase_add_test(cases, entropy_is_that_of_the_text);
	tcase_add_test(cases, entropy_is_that_of_the_chain);
	tcase_add_test(cases, same_everywhere);
	tcase_add_test(cases, words_differ);
	tcase_add_test(cases, split_info);
	tcase_add_test(cases, refused);
	suite_add_tcase(suite, cases);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

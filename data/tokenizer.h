/* The basic_english tokenizer as an iterator over bytes in memory; penstock/data.h states the rules. */
#ifndef PENSTOCK_DATA_TOKENIZER_H
#define PENSTOCK_DATA_TOKENIZER_H

#include <penstock/status.h>

#include <stddef.h>
#include <stdint.h>

typedef struct ps__tokenizer {
	const uint8_t *begin;
	const uint8_t *at;
	const uint8_t *end;
	/* The words that are not in the text as they stand are put together here. */
	uint8_t *word;
	size_t length;
	size_t capacity;
} ps__tokenizer;

/* Borrowed bytes, valid until the next call for the same tokenizer. */
typedef struct ps__token {
	const uint8_t *bytes;
	size_t length;
} ps__token;

/* `text` may be NULL when size is 0. ps__tokenizer_finish frees what the tokenizer owns. */
void ps__tokenizer_init(ps__tokenizer *tokenizer, const void *text, size_t size);
void ps__tokenizer_finish(ps__tokenizer *tokenizer);

/*
 * The next token; one of length 0 at the end. PS_EFORMAT without a message when the byte at tokenizer->at is NUL or
 * begins no UTF-8 character: the caller knows the file's name.
 */
ps_status ps__tokenizer_next(ps__tokenizer *tokenizer, ps__token *token);

/* Sets the message for a tokenizer that stopped with PS_EFORMAT: "PATH:LINE:COLUMN: what is wrong". */
ps_status ps__tokenizer_fail(const ps__tokenizer *tokenizer, const char *path);

#endif

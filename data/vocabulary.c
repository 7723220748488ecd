/* The word table of a corpus. */
#include "data/vocabulary.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 1 << 16, FIRST_ENTRIES = 1 << 14, FIRST_BYTES = 1 << 18 };

void ps__words_finish(ps__words *words)
{
	free(words->bytes);
	free(words->starts);
	*words = (ps__words){0};
}

/* Eight bytes a round; the last round takes what is left. The table is local to a process, so byte order is free. */
static uint64_t hash_bytes(const uint8_t *bytes, size_t length)
{
	const uint64_t factor = UINT64_C(0x9E3779B97F4A7C15);
	uint64_t hash = length * factor;
	for (; length >= 8; bytes += 8, length -= 8) {
		uint64_t chunk;
		memcpy(&chunk, bytes, 8);
		hash = (hash ^ chunk) * factor;
		hash ^= hash >> 32;
	}
	uint64_t chunk = 0;
	for (size_t i = 0; i < length; i++)
		chunk = chunk << 8 | bytes[i];
	hash = (hash ^ chunk) * factor;
	return hash ^ hash >> 32;
}

ps_status ps__vocabulary_init(ps__vocabulary *vocabulary)
{
	*vocabulary = (ps__vocabulary){.size = FIRST_BYTES, .capacity = FIRST_ENTRIES, .mask = FIRST_SLOTS - 1};
	vocabulary->bytes = malloc(FIRST_BYTES);
	vocabulary->entries = malloc(FIRST_ENTRIES * sizeof *vocabulary->entries);
	vocabulary->slots = malloc(FIRST_SLOTS * sizeof *vocabulary->slots);
	if (vocabulary->bytes == NULL || vocabulary->entries == NULL || vocabulary->slots == NULL) {
		ps__vocabulary_finish(vocabulary);
		return ps_fail(PS_ENOMEM, "no memory for a vocabulary");
	}
	memset(vocabulary->slots, -1, FIRST_SLOTS * sizeof *vocabulary->slots);
	int32_t id = 0;
	ps_status status = ps__vocabulary_add(vocabulary, (ps__token){(const uint8_t *)"<unk>", 5}, &id);
	if (status != PS_OK) {
		ps__vocabulary_finish(vocabulary);
		return status;
	}
	vocabulary->entries[0].count = 0;
	return PS_OK;
}

void ps__vocabulary_finish(ps__vocabulary *vocabulary)
{
	free(vocabulary->bytes);
	free(vocabulary->entries);
	free(vocabulary->slots);
	*vocabulary = (ps__vocabulary){0};
}

/* The slot that holds the word, or the free one where it belongs. */
static uint32_t slot_of(const ps__vocabulary *vocabulary, ps__token token, uint64_t hash)
{
	uint32_t slot = (uint32_t)hash & vocabulary->mask;
	for (;; slot = (slot + 1) & vocabulary->mask) {
		int32_t id = vocabulary->slots[slot];
		if (id < 0)
			return slot;
		const ps__entry *entry = &vocabulary->entries[id];
		if (entry->hash == hash && entry->length == token.length &&
		    memcmp(vocabulary->bytes + entry->start, token.bytes, token.length) == 0)
			return slot;
	}
}

static ps_status grow_slots(ps__vocabulary *vocabulary)
{
	size_t count = ((size_t)vocabulary->mask + 1) * 2;
	int32_t *slots = malloc(count * sizeof *slots);
	if (slots == NULL)
		return ps_fail(PS_ENOMEM, "no memory for a vocabulary of %zu slots", count);
	memset(slots, -1, count * sizeof *slots);
	uint32_t mask = (uint32_t)(count - 1);
	for (int32_t id = 0; id < vocabulary->count; id++) {
		uint32_t slot = (uint32_t)vocabulary->entries[id].hash & mask;
		while (slots[slot] >= 0)
			slot = (slot + 1) & mask;
		slots[slot] = id;
	}
	free(vocabulary->slots);
	vocabulary->slots = slots;
	vocabulary->mask = mask;
	return PS_OK;
}

/* Room for one more word of `length` bytes and its terminator. */
static ps_status reserve(ps__vocabulary *vocabulary, size_t length)
{
	if (vocabulary->count == vocabulary->capacity) {
		if (vocabulary->capacity > (1 << 28))
			return ps_fail(PS_ETOOBIG, "more than %d different words", 1 << 28);
		int32_t capacity = vocabulary->capacity * 2;
		ps__entry *entries = realloc(vocabulary->entries, (size_t)capacity * sizeof *entries);
		if (entries == NULL)
			return ps_fail(PS_ENOMEM, "no memory for a vocabulary of %d words", (int)capacity);
		vocabulary->entries = entries;
		vocabulary->capacity = capacity;
	}
	if (vocabulary->size - vocabulary->used <= length) {
		size_t size = vocabulary->size * 2;
		while (size - vocabulary->used <= length)
			size *= 2;
		char *bytes = realloc(vocabulary->bytes, size);
		if (bytes == NULL)
			return ps_fail(PS_ENOMEM, "no memory for a vocabulary of %zu bytes", size);
		vocabulary->bytes = bytes;
		vocabulary->size = size;
	}
	if ((uint32_t)vocabulary->count > vocabulary->mask / 2)
		PS_TRY(grow_slots(vocabulary));
	return PS_OK;
}

ps_status ps__vocabulary_add(ps__vocabulary *vocabulary, ps__token token, int32_t *id)
{
	uint64_t hash = hash_bytes(token.bytes, token.length);
	uint32_t slot = slot_of(vocabulary, token, hash);
	if (vocabulary->slots[slot] < 0) {
		PS_TRY(reserve(vocabulary, token.length));
		slot = slot_of(vocabulary, token, hash);
		memcpy(vocabulary->bytes + vocabulary->used, token.bytes, token.length);
		vocabulary->bytes[vocabulary->used + token.length] = '\0';
		vocabulary->entries[vocabulary->count] =
		        (ps__entry){.start = vocabulary->used, .length = token.length, .hash = hash};
		vocabulary->used += token.length + 1;
		vocabulary->slots[slot] = vocabulary->count++;
	}
	*id = vocabulary->slots[slot];
	vocabulary->entries[*id].count++;
	return PS_OK;
}

int32_t ps__vocabulary_find(const ps__vocabulary *vocabulary, ps__token token)
{
	int32_t id = vocabulary->slots[slot_of(vocabulary, token, hash_bytes(token.bytes, token.length))];
	return id < 0 ? 0 : id;
}

/* What qsort needs to know of a word. */
typedef struct ranked {
	const char *word;
	uint64_t count;
	int32_t id;
} ranked;

/* UTF-8 keeps code-point order when its bytes are compared without sign, which is what strcmp does. */
static int compare(const void *a, const void *b)
{
	const ranked *x = a;
	const ranked *y = b;
	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	return strcmp(x->word, y->word);
}

ps_status ps__vocabulary_sort(const ps__vocabulary *vocabulary, ps__words *words, int32_t *final_ids)
{
	size_t count = (size_t)vocabulary->count;
	ranked *order = malloc(count * sizeof *order);
	ps__words sorted = {.bytes = malloc(vocabulary->used),
	                    .size = vocabulary->used,
	                    .starts = malloc(count * sizeof *sorted.starts),
	                    .count = vocabulary->count};
	if (order == NULL || sorted.bytes == NULL || sorted.starts == NULL) {
		free(order);
		ps__words_finish(&sorted);
		return ps_fail(PS_ENOMEM, "no memory to sort %zu words", count);
	}
	for (size_t i = 0; i < count; i++) {
		const ps__entry *entry = &vocabulary->entries[i];
		order[i] = (ranked){vocabulary->bytes + entry->start, entry->count, (int32_t)i};
	}
	qsort(order + 1, count - 1, sizeof *order, compare);
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		size_t size = vocabulary->entries[order[i].id].length + 1;
		memcpy(sorted.bytes + used, order[i].word, size);
		sorted.starts[i] = used;
		used += size;
		final_ids[order[i].id] = (int32_t)i;
	}
	free(order);
	*words = sorted;
	return PS_OK;
}

/*
 * What is known of a device's products, in two files of the user's cache for each dtype: what CLBlast was found to be
 * (.gemm), and what tuning found (.tune). The second is named by the device alone, so that one of another driver or
 * another version of Penstock is seen to be stale.
 */
#include "backends/opencl/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct cl_gemm_state {
	struct cl_gemm_known of[2]; /* by PS_F32 and PS_F64 */
};

pthread_mutex_t ps__cl_gemm_mutex = PTHREAD_MUTEX_INITIALIZER;

enum { KEY_BYTES = 4096 };

static const char *dtype_name(ps_dtype dtype)
{
	return dtype == PS_F64 ? "fp64" : "fp32";
}

static void tuned_name(const struct cl_device *d, ps_dtype dtype, char *name)
{
	snprintf(name, KEY_BYTES, "%s|%s|%s", d->platform_name, d->name, dtype_name(dtype));
}

/* All that the tuned plans and values depend on: device, driver, CLBlast, and the forms in their order. */
static void tuned_key(const struct cl_device *d, ps_dtype dtype, char *key)
{
	int used = snprintf(key, KEY_BYTES, "%s|%s|CLBlast %s|%zu", d->identity, dtype_name(dtype), PS_CLBLAST_VERSION,
	                    sizeof(struct cl_tuned));
	for (int i = 0; i < CL_GEMM_FORMS && used > 0 && used < KEY_BYTES; i++)
		used += snprintf(key + used, (size_t)(KEY_BYTES - used), "|%s", ps__cl_forms[i].options);
}

/* Verdicts hold for CLBlast as it was tuned then. */
static void verdict_key(const struct cl_device *d, ps_dtype dtype, const struct cl_gemm_known *known, char *key)
{
	snprintf(key, KEY_BYTES, "%s|%s|CLBlast %s|%zu|tuned %lld", d->identity, dtype_name(dtype), PS_CLBLAST_VERSION,
	         sizeof(struct cl_verdicts), known->tuning == CL_CACHE_GOOD ? (long long)known->tuned.when : 0LL);
}

static bool is_sound(const struct cl_device *d, ps_dtype dtype, const struct cl_tuned *tuned)
{
	if (tuned->count < 1 || tuned->count > CL_TUNED_ROWS)
		return false;
	for (int i = 0; i < tuned->count; i++) {
		const struct cl_gemm_plan *plan = &tuned->rows[i].plan;
		if (plan->form < 0 || plan->form >= CL_GEMM_FORMS || !ps__cl_form_fits(d, plan->form, dtype) ||
		    plan->depth < 1 || plan->rows < 1 || plan->columns < 1 || tuned->rows[i].m < 1 ||
		    tuned->rows[i].n < 1 || tuned->rows[i].k < 1)
			return false;
	}
	return true;
}

/* Reads a file of exactly `bytes` into `to`. */
static enum cl_cached load(const char *name, const char *key, const char *suffix, void *to, size_t bytes)
{
	unsigned char *data = NULL;
	size_t found;
	enum cl_cached answer = ps__cl_cache_load(name, key, suffix, &data, &found);
	if (answer != CL_CACHE_GOOD)
		return answer;
	if (found == bytes)
		memcpy(to, data, bytes);
	free(data);
	return found == bytes ? CL_CACHE_GOOD : CL_CACHE_DAMAGED;
}

static void recall(const struct cl_device *d, ps_dtype dtype, struct cl_gemm_known *known)
{
	char name[KEY_BYTES], key[KEY_BYTES];
	tuned_name(d, dtype, name);
	tuned_key(d, dtype, key);
	known->tuning = load(name, key, "tune", &known->tuned, sizeof known->tuned);
	if (known->tuning == CL_CACHE_GOOD && !is_sound(d, dtype, &known->tuned))
		known->tuning = CL_CACHE_DAMAGED;
	verdict_key(d, dtype, known, key);
	if (load(key, key, "gemm", &known->verdicts, sizeof known->verdicts) != CL_CACHE_GOOD)
		memset(&known->verdicts, 0, sizeof known->verdicts);
	known->loaded = true;
}

struct cl_gemm_known *ps__cl_gemm_known(struct cl_device *d, ps_dtype dtype)
{
	if (!d->gemm)
		d->gemm = calloc(1, sizeof *d->gemm);
	if (!d->gemm)
		return NULL;
	struct cl_gemm_known *known = &d->gemm->of[dtype == PS_F64];
	if (!known->loaded)
		recall(d, dtype, known);
	return known;
}

void ps__cl_keep_verdicts(const struct cl_device *d, ps_dtype dtype, const struct cl_gemm_known *known)
{
	char key[KEY_BYTES];
	verdict_key(d, dtype, known, key);
	/* Without the file the next start checks again. */
	(void)ps__cl_cache_save(key, key, "gemm", &known->verdicts, sizeof known->verdicts);
}

void ps__cl_keep_tuned(const struct cl_device *d, ps_dtype dtype, struct cl_gemm_known *known,
                       const struct cl_tuned *tuned, char *file, size_t bytes)
{
	char name[KEY_BYTES], key[KEY_BYTES];
	known->tuned = *tuned;
	known->tuning = CL_CACHE_GOOD;
	known->applied = false;
	memset(&known->verdicts, 0, sizeof known->verdicts);
	tuned_name(d, dtype, name);
	tuned_key(d, dtype, key);
	if (!ps__cl_cache_save(name, key, "tune", &known->tuned, sizeof known->tuned) ||
	    !ps__cl_cache_path(file, bytes, name, "tune"))
		file[0] = '\0';
}

/* Who makes products by a good file of tuning: "own kernels, tuned 2026-11-24, 62 GFLOP/s". */
static void note_tuned(const struct cl_tuned *tuned, char *text, size_t bytes)
{
	int by_clblast = 0;
	char date[16] = "?";
	time_t when = (time_t)tuned->when;
	struct tm parts;
	for (int i = 0; i < CL_TRANSPOSES; i++)
		by_clblast += tuned->clblast[i] != 0;
	if (localtime_r(&when, &parts))
		strftime(date, sizeof date, "%Y-%m-%d", &parts);
	snprintf(text, bytes, "gemm: %s, tuned %s, %.0f GFLOP/s",
	         by_clblast == 0               ? "own kernels"
	         : by_clblast == CL_TRANSPOSES ? "CLBlast"
	                                       : "CLBlast and own kernels",
	         date, tuned->rate * 1e-9);
}

/* What the verdicts say of CLBlast where it makes products. */
static void note_verdicts(const struct cl_verdicts *verdicts, bool tuned, char *text, size_t bytes)
{
	int right = 0, wrong = 0;
	for (int i = 0; i < CL_GEMM_CLASSES; i++) {
		right += verdicts->classes[i] == CL_RIGHT;
		wrong += verdicts->classes[i] == CL_WRONG;
	}
	if (!tuned && ps__cl_own_is_faster(verdicts))
		snprintf(text, bytes, "gemm: own kernels, as CLBlast took %.1f times as long", 1 / verdicts->own_share);
	else if (wrong > 0)
		snprintf(text, bytes, "%sCLBlast failed its check in %d of %d classes of products; own kernels there",
		         tuned ? "; " : "gemm: ", wrong, right + wrong);
	else if (!tuned)
		snprintf(text, bytes, "gemm: CLBlast, %s", right > 0 ? "which passed its checks" : "not checked yet");
}

void ps__cl_gemm_note(struct cl_device *d, char *text, size_t bytes)
{
	text[0] = '\0';
	pthread_mutex_lock(&ps__cl_gemm_mutex);
	const struct cl_gemm_known *known = ps__cl_gemm_known(d, PS_F32);
	if (known && known->tuning == CL_CACHE_GOOD) {
		note_tuned(&known->tuned, text, bytes);
		note_verdicts(&known->verdicts, true, text + strlen(text), bytes - strlen(text));
	} else if (known && d->cpu) {
		snprintf(text, bytes, "gemm: own kernels");
	} else if (known) {
		note_verdicts(&known->verdicts, false, text, bytes);
	}
	pthread_mutex_unlock(&ps__cl_gemm_mutex);
	size_t used = strlen(text);
	if (known && known->tuning == CL_CACHE_NONE)
		snprintf(text + used, bytes - used, ", not tuned");
	else if (known && known->tuning == CL_CACHE_DAMAGED)
		snprintf(text + used, bytes - used,
		         "; its file of tuned parameters is damaged and not used: tune again");
	else if (known && known->tuning == CL_CACHE_STALE)
		snprintf(text + used, bytes - used, "; it was tuned for another driver or version: tune again");
}

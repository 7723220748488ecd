/* The published data sets that `penstock data fetch` knows; one row each. */
#include <penstock/data.h>

#include <string.h>

static const ps_fetch_file wikitext2_files[] = {
        {"wiki.train.tokens", 10797148, "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"},
        {"wiki.valid.tokens", 1121681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"},
        {"wiki.test.tokens", 1256449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"},
};

static const ps_fetch_source sources[] = {
        {
                .name = "wikitext-2",
                .url = "https://wikitext.smerity.com/wikitext-2-v1.zip",
                .archive = "wikitext-2-v1.zip",
                .md5 = "542ccefacc6c27f945fb54453812b3cd",
                .sha256 = "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
                .files = wikitext2_files,
                .file_count = sizeof wikitext2_files / sizeof *wikitext2_files,
        },
};

const ps_fetch_source *ps_fetch_source_at(size_t index)
{
	return index < sizeof sources / sizeof *sources ? &sources[index] : NULL;
}

const ps_fetch_source *ps_fetch_source_find(const char *name)
{
	for (size_t i = 0; ps_fetch_source_at(i) != NULL; i++) {
		if (strcmp(sources[i].name, name) == 0)
			return &sources[i];
	}
	return NULL;
}

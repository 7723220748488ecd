/*
 * The parameters of the kernels that CLBlast makes products with, the values that are worth trying, and which of them
 * go together. CLBlast's tuners are programs and C++; what C has is CLBlastOverrideParameters, which takes all
 * parameters of a kernel at once and compiles it anew when it is next used.
 */
#include "backends/opencl/gemm.h"

#include <clblast_c.h>

enum { CHOICES = 6 };

struct parameter {
	const char *name;
	int count;
	int choices[CHOICES];
};

struct kernel {
	const char *name;
	int count;
	struct parameter parameters[CL_CLBLAST_PARAMETERS];
};

enum { GEMMK, KREG, KWG, KWI, MDIMA, MDIMC, MWG, NDIMB, NDIMC, NWG, SA, SB, STRM, STRN, VWM, VWN };
enum { KWID, MDIMAD, MDIMCD, NDIMBD, NDIMCD, PADA, PADB, VWMD, VWND, WGD };

static const struct kernel kernels[CL_CLBLAST_KERNELS] = {
        [CL_XGEMM] = {"Xgemm",
                      16,
                      {
                              [GEMMK] = {"GEMMK", 2, {0, 1}},
                              [KREG] = {"KREG", 5, {1, 2, 4, 8, 16}},
                              [KWG] = {"KWG", 3, {1, 16, 32}},
                              [KWI] = {"KWI", 4, {1, 2, 4, 8}},
                              [MDIMA] = {"MDIMA", 5, {2, 4, 8, 16, 32}},
                              [MDIMC] = {"MDIMC", 5, {2, 4, 8, 16, 32}},
                              [MWG] = {"MWG", 5, {8, 16, 32, 64, 128}},
                              [NDIMB] = {"NDIMB", 5, {2, 4, 8, 16, 32}},
                              [NDIMC] = {"NDIMC", 5, {2, 4, 8, 16, 32}},
                              [NWG] = {"NWG", 5, {8, 16, 32, 64, 128}},
                              [SA] = {"SA", 2, {0, 1}},
                              [SB] = {"SB", 2, {0, 1}},
                              [STRM] = {"STRM", 2, {0, 1}},
                              [STRN] = {"STRN", 2, {0, 1}},
                              [VWM] = {"VWM", 4, {1, 2, 4, 8}},
                              [VWN] = {"VWN", 4, {1, 2, 4, 8}},
                      }},
        [CL_XGEMM_DIRECT] = {"XgemmDirect",
                             10,
                             {
                                     [KWID] = {"KWID", 3, {2, 8, 16}},
                                     [MDIMAD] = {"MDIMAD", 4, {4, 8, 16, 32}},
                                     [MDIMCD] = {"MDIMCD", 4, {4, 8, 16, 32}},
                                     [NDIMBD] = {"NDIMBD", 4, {4, 8, 16, 32}},
                                     [NDIMCD] = {"NDIMCD", 4, {4, 8, 16, 32}},
                                     [PADA] = {"PADA", 2, {0, 1}},
                                     [PADB] = {"PADB", 2, {0, 1}},
                                     [VWMD] = {"VWMD", 4, {1, 2, 4, 8}},
                                     [VWND] = {"VWND", 4, {1, 2, 4, 8}},
                                     [WGD] = {"WGD", 4, {8, 16, 32, 64}},
                             }},
        {"Copy",
         4,
         {
                 {"COPY_DIMX", 3, {8, 16, 32}},
                 {"COPY_DIMY", 3, {8, 16, 32}},
                 {"COPY_VW", 4, {1, 2, 4, 8}},
                 {"COPY_WPT", 4, {1, 2, 4, 8}},
         }},
        {"Pad",
         4,
         {
                 {"PAD_DIMX", 3, {8, 16, 32}},
                 {"PAD_DIMY", 3, {8, 16, 32}},
                 {"PAD_WPTX", 3, {1, 2, 4}},
                 {"PAD_WPTY", 3, {1, 2, 4}},
         }},
        {"Transpose",
         4,
         {
                 {"TRA_DIM", 4, {4, 8, 16, 32}},
                 {"TRA_PAD", 2, {0, 1}},
                 {"TRA_SHUFFLE", 2, {0, 1}},
                 {"TRA_WPT", 4, {1, 2, 4, 8}},
         }},
        {"Padtranspose",
         3,
         {
                 {"PADTRA_PAD", 2, {0, 1}},
                 {"PADTRA_TILE", 3, {8, 16, 32}},
                 {"PADTRA_WPT", 4, {1, 2, 4, 8}},
         }},
        /* The side of the cube from which on Xgemm makes a product, and below which XgemmDirect does. */
        [CL_GEMM_ROUTINE] = {"GemmRoutine", 1, {{"XGEMM_MIN_INDIRECT_SIZE", 1, {512}}}},
};

const struct cl_clblast_values ps__cl_clblast_start = {{
        [CL_XGEMM] = {[GEMMK] = 0,
                      [KREG] = 1,
                      [KWG] = 16,
                      [KWI] = 2,
                      [MDIMA] = 8,
                      [MDIMC] = 8,
                      [MWG] = 32,
                      [NDIMB] = 8,
                      [NDIMC] = 8,
                      [NWG] = 32,
                      [VWM] = 2,
                      [VWN] = 2},
        [CL_XGEMM_DIRECT] = {2, 8, 8, 8, 8, 1, 1, 1, 1, 16},
        {8, 8, 1, 1},
        {8, 8, 1, 1},
        {8, 0, 0, 1},
        {0, 8, 1},
        [CL_GEMM_ROUTINE] = {512},
}};

const char *ps__cl_clblast_kernel_name(int kernel)
{
	return kernels[kernel].name;
}

static bool divides(int divisor, int number)
{
	return divisor > 0 && number % divisor == 0;
}

static bool xgemm_allowed(const struct cl_device *d, uint64_t element, const int *v)
{
	int group = v[MDIMC] * v[NDIMC];
	if (group > d->group_limit || !divides(v[MDIMC] * v[VWM], v[MWG]) || !divides(v[NDIMC] * v[VWN], v[NWG]) ||
	    !divides(v[MDIMA] * v[VWM], v[MWG]) || !divides(v[NDIMB] * v[VWN], v[NWG]) || !divides(v[KWI], v[KWG]))
		return false;
	if (v[GEMMK] == 1)
		return v[KWG] == 1 && v[KWI] == 1 && v[MDIMA] == v[MDIMC] && v[NDIMB] == v[NDIMC] && !v[SA] && !v[SB] &&
		       v[STRM] == 0 && v[STRN] == 0 && divides(v[VWN], v[KREG]) && divides(v[VWN], v[NWG] / v[NDIMC]);
	uint64_t local = (uint64_t)v[KWG] * (uint64_t)(v[SA] * v[MWG] + v[SB] * v[NWG]) * element;
	return v[KREG] == 1 && v[KWG] > 1 && v[KWI] > 1 && divides(v[MDIMA], group) && divides(v[NDIMB], group) &&
	       divides(group / v[MDIMA], v[KWG]) && divides(group / v[NDIMB], v[KWG]) && local <= d->local_bytes;
}

static bool direct_allowed(const struct cl_device *d, uint64_t element, const int *v)
{
	int group = v[MDIMCD] * v[NDIMCD];
	uint64_t local = (uint64_t)(v[WGD] * (2 * v[WGD] + v[PADA] + v[PADB])) * element;
	return group <= d->group_limit && local <= d->local_bytes && divides(v[KWID], v[WGD]) &&
	       divides(v[MDIMCD] * v[VWMD], v[WGD]) && divides(v[NDIMCD] * v[VWND], v[WGD]) &&
	       divides(v[MDIMAD] * v[VWMD], v[WGD]) && divides(v[NDIMBD] * v[VWND], v[WGD]) &&
	       divides(v[MDIMAD], group) && divides(v[NDIMBD], group) && divides(group / v[MDIMAD], v[WGD]) &&
	       divides(group / v[NDIMBD], v[WGD]);
}

bool ps__cl_clblast_allowed(const struct cl_device *d, ps_dtype dtype, int kernel, const struct cl_clblast_values *v)
{
	uint64_t element = ps_dtype_bytes(dtype);
	if (kernel == CL_XGEMM)
		return xgemm_allowed(d, element, v->of[kernel]);
	if (kernel == CL_XGEMM_DIRECT)
		return direct_allowed(d, element, v->of[kernel]);
	return true;
}

/* A number below `bound`, from an xorshift generator. */
static int draw(uint64_t *random, int bound)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return (int)(*random % (uint64_t)bound);
}

static void redraw(struct cl_clblast_values *v, int kernel, int which, uint64_t *random)
{
	const struct parameter *parameter = &kernels[kernel].parameters[which];
	v->of[kernel][which] = parameter->choices[draw(random, parameter->count)];
}

void ps__cl_clblast_change(struct cl_clblast_values *v, int kernel, bool all, uint64_t *random)
{
	for (int i = 0; all && i < kernels[kernel].count; i++)
		redraw(v, kernel, i, random);
	redraw(v, kernel, draw(random, kernels[kernel].count), random);
	redraw(v, kernel, draw(random, kernels[kernel].count), random);
}

ps_status ps__cl_clblast_set(const struct cl_device *d, ps_dtype dtype, int kernel, const struct cl_clblast_values *v)
{
	const struct kernel *k = &kernels[kernel];
	const char *names[CL_CLBLAST_PARAMETERS];
	size_t values[CL_CLBLAST_PARAMETERS];
	for (int i = 0; i < k->count; i++) {
		names[i] = k->parameters[i].name;
		values[i] = (size_t)v->of[kernel][i];
	}
	CLBlastStatusCode code = CLBlastOverrideParameters(
	        d->id, k->name, dtype == PS_F64 ? CLBlastPrecisionDouble : CLBlastPrecisionSingle, (size_t)k->count,
	        names, values);
	return code == CLBlastSuccess ? PS_OK
	                              : ps_fail(PS_EDEVICE, "%s: CLBlast does not take parameters for %s (code %d)",
	                                        d->name, k->name, (int)code);
}

/* The smallest program that needs the installed headers and library; it stands in where examples/tiny.c is not. */
#include <penstock/status.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
	if (strcmp(ps_status_name(PS_OK), "PS_OK") != 0)
		return 1;
	return puts("the installed library answers") < 0;
}

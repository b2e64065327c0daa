package admin

import "regexp"

// AddBatch is how many numbered users one transaction adds. Large transactions are fast, but a
// transaction must not delay others for long.
const AddBatch = 2000

// OneNumber matches a format for names that holds one number, and nothing else that package fmt
// would act on.
var OneNumber = regexp.MustCompile(`^[^%]*%(0?[1-9][0-9]?)?d[^%]*$`)

/**
 * steady returns a time in ms, above 0, that only grows: Date.now may jump when the clock of the
 * machine is set. It may stand still while the machine sleeps.
 */
export const steady = (): number => performance.now() + 1;

/** What went wrong, and what to do about it. */
export class HearthError extends Error {
  /**
   * @param {string} what
   * @param {string} advice may be empty where `what` says it
   */
  constructor(what, advice) {
    super(advice ? `${what} ${advice}` : what);
    this.name = "HearthError";
    /** What to do. */
    this.advice = advice;
  }
}

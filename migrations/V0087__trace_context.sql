-- Which trace a job belongs to (https://www.w3.org/TR/trace-context/): the queue carries ids only and
-- may be wiped, and a job that is taken over goes on with the trace that it began in.
ALTER TABLE jobs
    ADD COLUMN traceparent text,
    ADD COLUMN tracestate text;

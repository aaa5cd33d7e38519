-- Checks of a repository that something was pushed to (jobs of the kind 'pushed'). However many pushes
-- are told of, one check waits for each engine and repository; the one that runs is no longer in the way
-- of it, so that a push that comes meanwhile is looked at afterwards.
CREATE UNIQUE INDEX jobs_pushed ON jobs (agent, watcher, (spec ->> 'repository'))
    WHERE kind = 'pushed' AND state = 'queued';
-- When the last one began, and whether one runs.
CREATE INDEX jobs_pushed_last ON jobs (agent, watcher, (spec ->> 'repository'), run_after)
    WHERE kind = 'pushed';

CREATE TABLE bus_commits (
	number BIGINT GENERATED ALWAYS AS IDENTITY,
	id TEXT COLLATE "C" NOT NULL,
	stream TEXT COLLATE "C" NOT NULL,
	category TEXT COLLATE "C" NOT NULL,
	first BIGINT NOT NULL,
	last BIGINT NOT NULL,
	time TIMESTAMP(3) WITH TIME ZONE NOT NULL,
	correlation_id TEXT COLLATE "C" NOT NULL,
	causation_id TEXT COLLATE "C",
	message TEXT COLLATE "C" NOT NULL,
	digest TEXT COLLATE "C" NOT NULL,
	headers JSON,
	events JSON NOT NULL,
	outgoing JSON,
	result JSON,
	pending BOOLEAN,
	PRIMARY KEY (number)
);
CREATE UNIQUE INDEX bus_commits_id ON bus_commits (id);
CREATE INDEX bus_commits_pending ON bus_commits (time) WHERE pending;
CREATE UNIQUE INDEX bus_commits_place ON bus_commits (stream, first);
CREATE INDEX bus_commits_time ON bus_commits (category, time, first, number);
CREATE TABLE bus_dead_letters (
	id TEXT COLLATE "C" NOT NULL,
	fingerprint TEXT COLLATE "C" NOT NULL,
	queue TEXT COLLATE "C" NOT NULL,
	stream TEXT COLLATE "C" NOT NULL,
	first_seen TIMESTAMP(3) WITH TIME ZONE NOT NULL,
	last_seen TIMESTAMP(3) WITH TIME ZONE NOT NULL,
	seen BIGINT NOT NULL,
	letter JSON NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX bus_dead_letters_fingerprint ON bus_dead_letters (fingerprint);
CREATE INDEX bus_dead_letters_last_seen ON bus_dead_letters (last_seen);
CREATE INDEX bus_dead_letters_queue ON bus_dead_letters (queue);
CREATE TABLE bus_handled (
	mark TEXT COLLATE "C" NOT NULL,
	time TIMESTAMP(3) WITH TIME ZONE NOT NULL,
	PRIMARY KEY (mark)
);
CREATE INDEX bus_handled_time ON bus_handled (time);
CREATE TABLE bus_leases (
	name TEXT COLLATE "C" NOT NULL,
	owner TEXT COLLATE "C" NOT NULL,
	until TIMESTAMP(3) WITH TIME ZONE NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE bus_notes (
	key TEXT COLLATE "C" NOT NULL,
	revision BIGINT NOT NULL,
	value JSON NOT NULL,
	PRIMARY KEY (key)
);
CREATE TABLE bus_parked (
	projection TEXT COLLATE "C" NOT NULL,
	stream TEXT COLLATE "C" NOT NULL,
	parked JSON NOT NULL,
	PRIMARY KEY (projection, stream)
);
CREATE TABLE bus_schema (
	version INTEGER NOT NULL,
	made TIMESTAMP(3) WITH TIME ZONE NOT NULL,
	PRIMARY KEY (version)
);
CREATE TABLE bus_snapshots (
	stream TEXT COLLATE "C" NOT NULL,
	version BIGINT NOT NULL,
	shape TEXT COLLATE "C" NOT NULL,
	state JSON NOT NULL,
	PRIMARY KEY (stream)
);
CREATE TABLE bus_states (
	stream TEXT COLLATE "C" NOT NULL,
	category TEXT COLLATE "C" NOT NULL,
	version BIGINT NOT NULL,
	shape TEXT COLLATE "C" NOT NULL,
	state JSON NOT NULL,
	PRIMARY KEY (stream)
);
CREATE INDEX bus_states_category ON bus_states (category, stream);
CREATE TABLE bus_swept (
	projection TEXT COLLATE "C" NOT NULL,
	until TIMESTAMP(3) WITH TIME ZONE NOT NULL,
	PRIMARY KEY (projection)
);
INSERT INTO bus_schema (version, made) VALUES (1, '2026-11-29 00:00:00');

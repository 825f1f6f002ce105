CREATE TABLE bus_commits (
	number BIGINT NOT NULL AUTO_INCREMENT,
	id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	stream VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	category VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	first BIGINT NOT NULL,
	last BIGINT NOT NULL,
	time DATETIME(3) NOT NULL,
	correlation_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	causation_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
	message VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	digest VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	headers JSON,
	events JSON NOT NULL,
	outgoing JSON,
	result JSON,
	pending BOOL,
	PRIMARY KEY (number)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE UNIQUE INDEX bus_commits_id ON bus_commits (id);
CREATE INDEX bus_commits_pending ON bus_commits (pending, time);
CREATE UNIQUE INDEX bus_commits_place ON bus_commits (stream, first);
CREATE INDEX bus_commits_time ON bus_commits (category, time, first, number);
CREATE TABLE bus_dead_letters (
	id VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	fingerprint VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	queue VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	stream VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	first_seen DATETIME(3) NOT NULL,
	last_seen DATETIME(3) NOT NULL,
	seen BIGINT NOT NULL,
	letter JSON NOT NULL,
	PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE INDEX bus_dead_letters_fingerprint ON bus_dead_letters (fingerprint);
CREATE INDEX bus_dead_letters_last_seen ON bus_dead_letters (last_seen);
CREATE INDEX bus_dead_letters_queue ON bus_dead_letters (queue);
CREATE TABLE bus_handled (
	mark VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	time DATETIME(3) NOT NULL,
	PRIMARY KEY (mark)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE INDEX bus_handled_time ON bus_handled (time);
CREATE TABLE bus_leases (
	name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	owner VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	until DATETIME(3) NOT NULL,
	PRIMARY KEY (name)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE TABLE bus_notes (
	`key` VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	revision BIGINT NOT NULL,
	value JSON NOT NULL,
	PRIMARY KEY (`key`)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE TABLE bus_parked (
	projection VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	stream VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	parked JSON NOT NULL,
	PRIMARY KEY (projection, stream)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE TABLE bus_schema (
	version INTEGER NOT NULL,
	made DATETIME(3) NOT NULL,
	PRIMARY KEY (version)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE TABLE bus_snapshots (
	stream VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	version BIGINT NOT NULL,
	shape VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	state JSON NOT NULL,
	PRIMARY KEY (stream)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE TABLE bus_states (
	stream VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	category VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	version BIGINT NOT NULL,
	shape VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	state JSON NOT NULL,
	PRIMARY KEY (stream)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
CREATE INDEX bus_states_category ON bus_states (category, stream);
CREATE TABLE bus_swept (
	projection VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
	until DATETIME(3) NOT NULL,
	PRIMARY KEY (projection)
)ENGINE=InnoDB CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC;
INSERT INTO bus_schema (version, made) VALUES (1, '2026-11-29 00:00:00');

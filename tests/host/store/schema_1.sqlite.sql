CREATE TABLE chunk (
  broker TEXT NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (broker, digest)
);
CREATE TABLE counter (
  name TEXT NOT NULL,
  value BIGINT NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE decision (
  number INTEGER NOT NULL,
  model TEXT NOT NULL,
  document BLOB NOT NULL,
  PRIMARY KEY (number)
);
CREATE INDEX ix_decision_model ON decision (model);
CREATE TABLE desired (
  kind TEXT NOT NULL,
  target TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  document BLOB NOT NULL,
  PRIMARY KEY (kind, target)
);
CREATE TABLE device (
  device TEXT NOT NULL,
  birth BLOB,
  presence BLOB,
  reported BLOB,
  last_seen FLOAT NOT NULL,
  PRIMARY KEY (device)
);
CREATE TABLE edgepick_schema (
  version INTEGER NOT NULL
);
CREATE TABLE lease (
  name TEXT NOT NULL,
  holder TEXT NOT NULL,
  expires_at FLOAT NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE release (
  position INTEGER NOT NULL,
  manifest TEXT NOT NULL,
  model TEXT NOT NULL,
  document BLOB NOT NULL,
  envelope BLOB NOT NULL,
  PRIMARY KEY (position),
  UNIQUE (manifest)
);
CREATE INDEX ix_release_model ON release (model);
CREATE TABLE report (
  position INTEGER NOT NULL,
  device TEXT NOT NULL,
  id TEXT NOT NULL,
  model TEXT,
  document BLOB NOT NULL,
  heard_at FLOAT NOT NULL,
  PRIMARY KEY (position),
  UNIQUE (device, id)
);
CREATE INDEX ix_report_model ON report (model);
CREATE TABLE rollout (
  position INTEGER NOT NULL,
  rollout TEXT NOT NULL,
  document BLOB NOT NULL,
  PRIMARY KEY (position),
  UNIQUE (rollout)
);

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
  number SERIAL NOT NULL,
  model TEXT NOT NULL,
  document BYTEA NOT NULL,
  PRIMARY KEY (number)
);
CREATE INDEX ix_decision_model ON decision (model);
CREATE TABLE desired (
  kind TEXT NOT NULL,
  target TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  document BYTEA NOT NULL,
  PRIMARY KEY (kind, target)
);
CREATE TABLE device (
  device TEXT NOT NULL,
  birth BYTEA,
  presence BYTEA,
  reported BYTEA,
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
  position SERIAL NOT NULL,
  manifest TEXT NOT NULL,
  model TEXT NOT NULL,
  document BYTEA NOT NULL,
  envelope BYTEA NOT NULL,
  PRIMARY KEY (position),
  UNIQUE (manifest)
);
CREATE INDEX ix_release_model ON release (model);
CREATE TABLE report (
  position SERIAL NOT NULL,
  device TEXT NOT NULL,
  id TEXT NOT NULL,
  model TEXT,
  document BYTEA NOT NULL,
  heard_at FLOAT NOT NULL,
  PRIMARY KEY (position),
  UNIQUE (device, id)
);
CREATE INDEX ix_report_model ON report (model);
CREATE TABLE rollout (
  position SERIAL NOT NULL,
  rollout TEXT NOT NULL,
  document BYTEA NOT NULL,
  PRIMARY KEY (position),
  UNIQUE (rollout)
);

# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

# OAUTHBEARER tokens for an administrator's client, which nobody polls.
RSpec.describe "SwarmNative::Kafka::Admin with a token", :kafka do
  next unless SwarmNative::Kafka.available?

  # No broker is there; librdkafka wants the token before it looks for one.
  def open_admin(&token)
    keep SwarmNative::Kafka::Admin.new("bootstrap.servers": "127.0.0.1:1", "security.protocol": "sasl_plaintext",
                                       "sasl.mechanisms": "OAUTHBEARER", "sasl.oauthbearer.config": "scope=topics",
                                       token: token)
  end

  def with_kafka_error(name, text = //)
    raise_error(SwarmNative::Kafka::Error) { |error| expect([error.name, error.message]).to match [name, text] }
  end

  it "asks the block for one, on a thread of its own, and again before it ends, whether or not anything is called" do
    asked = Queue.new
    open_admin do |config|
      asked << [config, Thread.current]
      { token: "abc", principal: "me", expires_at: Time.now + 1, extensions: { "logicalCluster" => "x" } }
    end
    wait_until(10, "two tokens") { asked.size >= 2 }
    config, thread = asked.pop
    expect([config, thread == Thread.current, thread.name]).to eq ["scope=topics", false, "swarm admin"]
  end

  it "says why there is none by the call, asks again with the next one, and repeats nothing that was put right" do
    key = nil
    admin = open_admin do
      raise KeyError, "no key" unless key

      { token: "abc", principal: "me", expires_at: Time.now + 3600 }
    end
    expect { admin.topics(timeout: 30) }.to with_kafka_error(:authentication, /no key \(KeyError\)/)
    # librdkafka by itself asks ten seconds later. What is wrong now is that there is no broker.
    key = "found"
    expect { admin.topics(timeout: 5) }.to with_kafka_error(:transport)
  end

  it "ends its thread with the close, also while the block runs" do
    running = Queue.new
    go_on = Queue.new
    admin = open_admin do
      running << Thread.current
      go_on.pop
      { token: "abc", principal: "me", expires_at: Time.now + 3600 }
    end
    thread = running.pop
    admin.close
    go_on << true
    expect(thread.join(10)).to be thread
  end

  it "refuses what is no block, as others do, by an error of the call" do
    admin = open_admin { { token: "" } }
    expect { admin.cluster(timeout: 30) }.to with_kafka_error(:authentication, /key not found: :expires_at/)
  end
end

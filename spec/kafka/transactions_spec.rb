# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

# What is tested is the client's side: states, errors, the order of things. The mock cluster keeps what was aborted
# visible, drops the offsets that come with a transaction, and fences nobody off.
RSpec.describe "SwarmNative::Kafka::Transactions", :kafka do
  let(:topic) { new_topic }

  def transactional(id = "id-#{rand(1 << 40)}")
    open_producer("transactional.id": id).init_transactions
  end

  it "commit what is produced in them, with a consumer's offsets" do
    open_producer.produce(topic: topic, payload: "in").wait(10)
    consumer = open_consumer(topic, "enable.auto.commit": false)
    batch = consumer.poll_batch(10, 10)
    out = new_topic
    producer = transactional
    delivery = producer.transaction do
      producer.send_offsets(batch, consumer)
      producer.produce(topic: out, payload: "out")
    end
    expect(delivery).to be_delivered
    expect(take(open_consumer(out, "isolation.level": "read_committed"), 1).map(&:payload)).to eq ["out"]
  end

  it "abort when the block raises, and can be begun again" do
    producer = transactional
    expect { producer.transaction { producer.produce(topic: topic, payload: "x") && raise(IOError, "out") } }
      .to raise_error(IOError, "out")
    expect(producer.transaction { :again }).to eq :again
    producer.begin_transaction.abort_transaction
    producer.begin_transaction.commit_transaction
  end

  it "refuse calls in the wrong order, and producers without an id" do
    plain = open_producer
    expect { plain.init_transactions(1) }.to raise_error(SwarmNative::Kafka::Error) { |e| expect(e.name).to eq :not_configured }
    producer = transactional
    expect { producer.commit_transaction }.to raise_error(SwarmNative::Kafka::Error) { |e| expect(e.name).to eq :state }
    producer.begin_transaction
    expect { producer.begin_transaction }.to raise_error(SwarmNative::Kafka::Error) { |e| expect(e.name).to eq :state }
    expect { producer.send_offsets(nil, open_consumer) }.to raise_error(TypeError)
    producer.abort_transaction
  end

  it "say that a call may be tried again when no broker answers in time" do
    producer = keep(SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:1", "transactional.id": "x"))
    expect { producer.init_transactions(0.3) }.to raise_error(SwarmNative::Kafka::Error) { |error|
      expect(error).to be_retriable
      expect(error).not_to be_fatal
    }
    producer.close(0)
  end
end

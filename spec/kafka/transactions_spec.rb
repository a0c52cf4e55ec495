# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"
require_relative "../support/on_real_kafka"

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

  it "finish an abort that no broker answered in time, before the next one begins" do
    result = run_ruby(<<~'RUBY', deadline: 60)
      Kafka = SwarmNative::Kafka
      Kafka::EmbeddedBroker.start(topics: { "orders" => 1 }) do |broker|
        producer = Kafka::Producer.new("bootstrap.servers": broker.bootstrap_servers, "transactional.id": "x")
        producer.init_transactions
        begin
          producer.transaction(timeout: 0.5) do
            producer.produce(topic: "orders", payload: "given up").wait(10)
            broker.down
            raise IOError, "out"
          end
        rescue IOError => e
          puts e.message
        end
        begin
          producer.transaction(timeout: 0.1) { puts "never" }
        rescue Kafka::Error => e
          puts e.retriable?
        end
        broker.up
        kept = producer.transaction(timeout: 30) { producer.produce(topic: "orders", payload: "kept") }
        puts kept.delivered?
        producer.close
      end
    RUBY
    expect([result.out, result.err]).to eq ["out\ntrue\ntrue\n", ""]
  end

  it "say that they have to be aborted once a message of theirs is refused" do
    producer = transactional
    producer.begin_transaction
    produce_refused(producer)
    expect { producer.commit_transaction(20) }.to raise_error(SwarmNative::Kafka::Error) { |error|
      expect([error.requires_abort?, error.fatal?]).to eq [true, false]
    }
    producer.abort_transaction(20)
    expect(producer.transaction { :again }).to eq :again
  end

  describe "on a real Kafka", :real_kafka do
    def payloads(topic, count)
      take(open_consumer(topic, "isolation.level": "read_committed"), count, 30).map(&:payload)
    end

    it "show what was committed and nothing else, and commit a consumer's offsets with it or not at all" do
      out = new_topic
      open_producer.produce_many(%w[a b].map { |payload| { topic: topic, payload: payload, partition: 0 } }).wait(30)
      consumer = open_consumer(topic, "enable.auto.commit": false)
      messages = take(consumer, 2, 30)
      producer = transactional
      expect do
        producer.transaction do
          producer.produce(topic: out, payload: "given up", partition: 0).wait(30)
          producer.send_offsets(messages, consumer)
          raise IOError, "out"
        end
      end.to raise_error(IOError, "out")
      expect(consumer.committed(10)).to eq({})
      producer.transaction do
        producer.produce(topic: out, payload: "kept", partition: 0)
        producer.send_offsets({ topic => { 0 => 1 } }, consumer)
      end
      expect([payloads(out, 1), consumer.committed(10)]).to eq [%w[kept], { topic => { 0 => 1 } }]
    end

    it "end for good with a producer whose transactional.id another one has taken" do
      id = "id-#{rand(1 << 40)}"
      first = transactional(id)
      first.transaction { first.produce(topic: topic, payload: "first", partition: 0) }
      first.begin_transaction
      first.produce(topic: topic, payload: "given up", partition: 0).wait(30)
      second = transactional(id)
      expect { first.commit_transaction(30) }.to raise_error(SwarmNative::Kafka::Error) { |error|
        expect([error.fatal?, error.retriable?]).to eq [true, false]
      }
      expect { first.transaction { raise "never" } }.to raise_error(SwarmNative::Kafka::Error) { |error|
        expect(error).to be_fatal
      }
      second.transaction { second.produce(topic: topic, payload: "second", partition: 0) }
      expect(payloads(topic, 2)).to eq %w[first second]
    end
  end
end

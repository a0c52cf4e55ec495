# frozen_string_literal: true

require "digest"
require "json"

module Demo
  # The messages and the work in them: an order is parsed, added up and signed many times over. All of it needs the
  # GVL, so that one process cannot use more than one core.
  module Work
    ROUNDS = 100

    module_function

    # @return [String] the message with this id; the same for the same seed
    def message(id, seed)
      noise = ((id * 2_654_435_761) + (seed * 40_503)) & 0xffff_ffff
      %({"id":#{id},"customer":"c-#{noise % 9973}","lines":[{"sku":"a-#{noise & 0xff}","count":#{1 + (noise % 7)},) +
        %("cents":#{100 + (noise % 4001)}},{"sku":"b-#{noise >> 24}","count":1,"cents":#{noise >> 20}}]})
    end

    # @param message [String]
    # @return [(Integer, Integer)] the message's id, and what came of the work: a wrong byte makes another number
    def process(message)
      order = JSON.parse(message)
      total = order["lines"].sum { |line| line["count"] * line["cents"] }
      signature = "#{message}#{total}"
      ROUNDS.times { signature = Digest::SHA256.digest(signature) }
      [order["id"], signature.unpack1("N")]
    end
  end
end

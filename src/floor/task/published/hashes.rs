//! SHA-256 of the published modules, as of lm_eval 0.4.13.

/// `afrobench/afriqa/prompt_1/utils.py`
pub(super) const AFRIQA: &str = "60987189f3532e012676b80bd5965441fc9cd9492db48133aefcf06e26e10649";
/// `agieval/utils.py`
pub(super) const AGIEVAL: &str = "d54929f3cfcae8ee7f1f0171414cb81ec19b4243ea6474d8155956beb18327d3";
/// `aime/utils.py`
pub(super) const AIME: &str = "e5072ebf08479745698bec6cfa103faa4f3ac5764db09bcbe760953227f9082b";
/// `arabic_leaderboard_complete/arabic_leaderboard_alghafa/utils.py`
pub(super) const ALGHAFA: &str = "679f4a5a831647afec370dac707cfd065ca225079427e78232458f4bbe8d02b8";
/// `arabic_leaderboard_complete/arabic_leaderboard_arabic_mt_boolq/utils.py`
pub(super) const ARABIC_BOOLQ: &str = "2fd82892703b37737eb1aaf892b458ee90a52710ac4c71a452dabafd54a8012f";
/// `arabic_leaderboard_complete/arabic_leaderboard_arabic_mt_copa/utils.py`
pub(super) const ARABIC_COPA: &str = "9b33805d6892bfd289bc0b0e0487a37110f69e7a240b6f50a9248ea3f5d8ec9c";
/// `arabic_leaderboard_complete/arabic_leaderboard_arabic_exams/utils.py`
pub(super) const ARABIC_EXAMS: &str = "e8a1612c1ae0c16bbb3183a4ba35fc820323b970e656900c6f4dd976695dc256";
/// `arabic_leaderboard_complete/arabic_leaderboard_arabic_mt_hellaswag/utils.py`
pub(super) const ARABIC_HELLASWAG: &str = "22f1f49ffd6a4f3740488023894458ed384fbb96adf1c1e377c1ba3e57d68343";
/// `arabic_leaderboard_complete/arabic_leaderboard_arabic_mmlu/utils.py`
pub(super) const ARABIC_LEADERBOARD_MMLU: &str =
    "c703900f5a6f700cd19d2773c3bc8b16420848d6a502fbbb2d8bd1157dafc55d";
/// `arabicmmlu/utils.py`
pub(super) const ARABIC_MMLU: &str = "a7ca604ad965d1e75f493f2be038f07a134bf52234268368abf1c31358f6b95d";
/// `arabic_leaderboard_complete/arabic_leaderboard_arabic_mt_sciq/utils.py`
pub(super) const ARABIC_SCIQ: &str = "be899caba6b7cf490b75322cbcbad5530a2a117a9c494df3840dd1e3fbb1dd81";
/// `arabic_leaderboard_complete/arabic_leaderboard_arabic_mt_toxigen/utils.py`
pub(super) const ARABIC_TOXIGEN: &str = "4383dadda891023aaf82bad0b424b2b51a97d129763c91ea4a24b725904de3e4";
/// `arabic_leaderboard_complete/arabic_leaderboard_avca/utils.py`
pub(super) const ARABIC_VCA: &str = "fd570dcffc004b617a83a50ac2f2804709e5a31ff810ded108fd2f04ae449651";
/// `arab_culture/utils_mcq.py`
pub(super) const ARAB_CULTURE: &str = "3d0a78d66e2a6be2ff3fdcf46f384e64fdb9ab73a66a064eb8d80efae7d63662";
/// `arab_culture_completion/utils_completion.py`
pub(super) const ARAB_CULTURE_COMPLETION: &str =
    "0a2d239bd9bc1b8ff6c7ea7621f7653001571a14be4225e409f81f01d4733cc1";
/// `aradice/boolq/EGY/utils.py`
pub(super) const ARADICE_BOOLQ_EGYPTIAN: &str =
    "59be7bfb95415ddb0b414e9d13e4b2309d5884ad9f9ebe21afdd6d6ab65bb7f7";
/// `aradice/boolq/ENG/utils.py`
pub(super) const ARADICE_BOOLQ_ENGLISH: &str =
    "df112c304f8bd17ff7c4ae173da1e4242dcb222e6cb7121a7ed43071850a4c07";
/// `aradice/boolq/LEV/utils.py`
pub(super) const ARADICE_BOOLQ_LEVANTINE: &str =
    "2c5b8af01c330ee17070864c6fed31a3394623dbac3117baddfef98f741ac59b";
/// `aradice/boolq/MSA/utils.py`
pub(super) const ARADICE_BOOLQ_STANDARD: &str =
    "8659f4279f1005610454bc28bdcc23217c3ed30ec23debc8efef74b8837d92a9";
/// `aradice/cultural-benchmark/utils.py`
pub(super) const ARADICE_CULTURAL: &str = "1e8d2ea46b9feafa1fb16804e04b795363b462fc314c1a37cf2440a3c6adfa6c";
/// `aradice/ArabicMMLU/EGY/utils.py`
pub(super) const ARADICE_EGYPTIAN: &str = "bbac22f361720e40e10aad8ceb4e3dd49e224057bb217872a78390eed4097d74";
/// `aradice/ArabicMMLU/LEV/utils.py`
pub(super) const ARADICE_LEVANTINE: &str = "b1e203fdca2829e785150d2483a3ac3cc5d7004aa4044cea3afaf0d94d9cca59";
/// `aradice/ArabicMMLU/EGY/metrics.py`
pub(super) const ARADICE_METRICS: &str = "47597e2fd7dfb2734b5b709dd66c81547d108e32262bada950536c60f84a0c44";
/// `aradice/openbookqa/utils.py`
pub(super) const ARADICE_OPENBOOKQA: &str =
    "2e24d8d1e3b2b14d186b4df8f35981661d6607a5c38321b0dd1946671092c05f";
/// `bbh/zeroshot/utils.py`
pub(super) const BBH: &str = "ecc017c5c3c0a03757d94072fb74feac74406b63d2f6efa6ec68f73f8db8a9fd";
/// `bigbench/utils.py`
pub(super) const BIGBENCH: &str = "ffe5920d8ee35daa9271be669629b928a76ac82ede88bdb21683c56785efa474";
/// `super_glue/cb/aggregate.py`
pub(super) const CB: &str = "1a65ad044b6b663a7293c84a70a1d1deb1762897272b4de3328f4b9ad57d847a";
/// `copal_id/utils.py`
pub(super) const COPAL_ID: &str = "78db673df86af9f6edc2a508c262b3003f16c93137a6a0855b9eba8c7ccd8f5d";
/// `coqa/utils.py`
pub(super) const COQA: &str = "62ac82e8027162d134709355a00526ff5497deb5987beebb18b439b320e860ca";
/// `crows_pairs/utils.py`
pub(super) const CROWS_PAIRS: &str = "5b1e3c31880a82a9fe9072e14edb15ffe143d08939de5d17fea17c2dc2fe0c16";
/// `csatqa/utils.py`
pub(super) const CSATQA: &str = "ac25f39e1488fe943b37d4d9217002d6b93b2b0457a155dc629a08ee624bc65c";
/// `arab_culture_completion/prompts.py`
pub(super) const CULTURE_COMPLETION_PROMPTS: &str =
    "9a2ffa1eec776786d99457bd968eede5bfbec28ad4a46354d53abcfbf2caa7cd";
/// `arab_culture/prompts.py`
pub(super) const CULTURE_PROMPTS: &str = "f1e5f417b1f3125bead9e5f7ed4c0894c751c0049b6c9ec76eff9e74612a8502";
/// `darijahellaswag/utils.py`
pub(super) const DARIJA_HELLASWAG: &str = "acec6074363461c0e6dc9b7d322a7ae454c11042b40dab8cf0e14068db9d605d";
/// `darijammlu/utils.py`
pub(super) const DARIJA_MMLU: &str = "0ffeb8e657558aa12e9088db09cc45163fab29897cd265fef5d2bfdd0dd2070c";
/// `drop/utils.py`
pub(super) const DROP: &str = "a5782ee7d2e537968a5b83976195ae2b9b6e2a565a0bfb5c24d221b4d61a04f5";
/// `egymmlu/utils.py`
pub(super) const EGY_MMLU: &str = "2dec115fb947c8874d870a9b8335dccfaabee3f3ca932c964202645f39b1d668";
/// `eus_exams/utils.py`
pub(super) const EUS_EXAMS: &str = "4ff455d4899e2ab9e755e35cda767c6dd70bc9554f673496b52233c134b60d6c";
/// `gpqa/zeroshot/utils.py`
pub(super) const GPQA: &str = "7c755f2c3f8f4ac20de96fb68941c43424d2ded0552d5ab81e672e15c410655c";
/// `gpqa/cot_n_shot/utils.py`
pub(super) const GPQA_COT: &str = "b603828710f1fb3e1b8fe42726b188544ef8dbd12d25f4ca676e42ca4d1a251b";
/// `gpqa/n_shot/utils.py`
pub(super) const GPQA_N_SHOT: &str = "8c70526cdc0f32811cd4cd35db6983561583980b4b7552c3484dc6846b41e241";
/// `greekmmlu/utils.py`
pub(super) const GREEK_MMLU: &str = "6185189b264bea9a525d5d32bf368c824bd0bc23f2c4479362a56e95e8e9205a";
/// `hendrycks_math/utils.py`
pub(super) const HENDRYCKS_MATH: &str = "8332e42f23c62043b23d74ee6d3934f997b209cd60a1ad45b7882d6b00929d5c";
/// `histoires_morales/utils.py`
pub(super) const HISTOIRES_MORALES: &str = "7259bb7a67275ac51e38a83f76977fb9a37225b26d45c25a5c764ba69b15644c";
/// `ifeval/utils.py`
pub(super) const IFEVAL: &str = "1ab8f14808c826f93f2364883487ed63cf4267980bf4761fda8053899c013632";
/// `indicparam/utils.py`
pub(super) const INDIC_PARAM: &str = "8f1025b513aeddb39a313edd75e43521e4f5dac790037ab9a6b0d8ee77903c23";
/// `leaderboard/gpqa/utils.py`
pub(super) const LEADERBOARD_GPQA: &str = "21901ae19d06c75c1490026f98be390e8b522b1d0d7cdce4f77740b344072883";
/// `leaderboard/math/utils.py`
pub(super) const LEADERBOARD_MATH: &str = "07950dcc102f8d3892c6acea62f5b3499a579aee4c5f8e9af6b94c84c43d16b9";
/// `leaderboard/mmlu_pro/utils.py`
pub(super) const LEADERBOARD_MMLU_PRO: &str =
    "49a014c4dc39902071760182858e6b4d42aaaa917a440e71a165bdff75085487";
/// `leaderboard/musr/utils.py`
pub(super) const LEADERBOARD_MUSR: &str = "9da42ec170310d8eaac3964994eb02d150e52e0f4514553e395c2a3174c25dd4";
/// `llama3/instruct/mmlu_pro/utils.py`
pub(super) const LLAMA_MMLU_PRO: &str = "888465171665585c62815c028558b7c88984ec68fc0ec70a1eb55c4a93b632b9";
/// `logiqa/utils_logiqa.py`
pub(super) const LOGIQA: &str = "46399f40065469d234c0c9e1ef3de9b67e50d5fe1c2c4130607eda2dda268260";
/// `logiqa2/utils_logiqa2.py`
pub(super) const LOGIQA2: &str = "0ad23be566a13d9bce46421a77fb2b146499e9b5271a565fffab181e400ff743";
/// `afrobench/mafand/prompt_1/african-english/utils.py`
pub(super) const MAFAND: &str = "e5b3741b622dca47aa2848c164a960d414efe7a8d897bb5d86a4fa09948f96ec";
/// `afrobench/masakhaner/prompt_1/utils.py`
pub(super) const MASAKHANER: &str = "289219763bb297fa5396c816a5ba412ddc0b9c502469ef927fd4aa49d2099c8b";
/// `afrobench/masakhapos/prompt_1/utils.py`
pub(super) const MASAKHAPOS: &str = "52dbbf7f9bf91302d3a9d2c9e3be9a1bedc59411ecb0fcea51f132afd8b06271";
/// `mathqa/utils.py`
pub(super) const MATHQA: &str = "345aa27870efd145f970456632622efc617b299a4d00abc9459242d2c696d342";
/// `medmcqa/utils_medmcqa.py`
pub(super) const MEDMCQA: &str = "b9cbe33d51b95624b9317cab8ffb917b32c178aaa100fd9ce4aac0a9c467479b";
/// `medqa/preprocess_medqa.py`
pub(super) const MEDQA: &str = "06adc6ef5bda3259fe547355e6b064ca57c674b502fac749d0a0ccc8fee91787";
/// `minerva_math/utils.py`
pub(super) const MINERVA_MATH: &str = "e6b10f05b1990d3e82a4414bbf8c04a9f6b7e029c00dfe336a040ecf78acdab0";
/// `mlqa/utils.py`
pub(super) const MLQA: &str = "597f08c0302ce42c158d17a609591e558897292bc3749015d67b55fe763d4c43";
/// `mmlu_pro/utils.py`
pub(super) const MMLU_PRO: &str = "d47eae06ecf1e9535b033394de62185327a1dca977cb29049003699adeb92801";
/// `mmlu_prox/af/utils.py`
pub(super) const MMLU_PROX: &str = "cfb27b5b32d75fccf7745e19b4b96668856b5a7c44e7e7a4533854e19e6ac5e1";
/// `mmlu_prox/lang_libs.py`
pub(super) const MMLU_PROX_LANGUAGES: &str =
    "582a892b4e8419c16384552b369d7ba828418c57768ccdd82d61172116b3da55";
/// `mmlu-pro-plus/utils.py`
pub(super) const MMLU_PRO_PLUS: &str = "b9879cbee0966b35896f4d7f0d374d0c4f720d12d6dc79881496d3a0d68669e3";
/// `mmlusr/answer_only/utils.py`
pub(super) const MMLU_SR: &str = "f28cc8d405c54ca83e339e3c6deebad195688d8788dbaf511a00c8ebee7f16f5";
/// `glue/mnli/utils.py`
pub(super) const MNLI: &str = "db3099bba72b47a29018221bbca9a9d44f043b5bf4fbc9df93b8081687ba895e";
/// `okapi/arc_multilingual/utils.py`
pub(super) const OKAPI_ARC: &str = "928f11eec23acc717775f156d8a308cc26dd623f54e91eb6bda3da09ca9e3281";
/// `okapi/truthfulqa_multilingual/utils.py`
pub(super) const OKAPI_TRUTHFULQA: &str = "53748c0c6a434a352efacb3604b3d0c15e7853344b17cd92abc2e158b664d11e";
/// `paloma/paloma_utils.py`
pub(super) const PALOMA: &str = "975344e671c75aa5fe79948a68c04eb6eed4f261cf3d4d6eed55789c3870e1ec";
/// `paws-x/utils.py`
pub(super) const PAWS_X: &str = "9a41d04f937b941f8fe68aa2853c293c0d324d3419dd81bf7dcebe8df24e482c";
/// `physics_gre/utils.py`
pub(super) const PHYSICS_GRE: &str = "4466e789c03fd8e318e3093e6698d0c5a646ba9239ef8461a0349ddef18b61df";
/// `pubmedqa/preprocess_pubmedqa.py`
pub(super) const PUBMEDQA: &str = "43528eee61666d94ae9ac3d58bcd3a0c38182a8898f996f536be9de1d3655740";
/// `super_glue/record/util.py`
pub(super) const RECORD: &str = "274e6430411e2d0376ec516ac191a44b81ecacf89151ba4df5f4107e894e2dfc";
/// `tmlu/default/utils.py`
pub(super) const TMLU: &str = "a3b885e9735f861776ca5bbee5f06d95ecad98cf11df1cf4bbe7fd457afffdbc";
/// `tmmluplus/default/utils.py`
pub(super) const TMMLU_PLUS: &str = "9907be363638a9b63b59829354de626d6d1310caff80ecfbf400fcb08973ac1f";
/// `toxigen/utils.py`
pub(super) const TOXIGEN: &str = "ee3555e7e5100a18c63a3b194003af6e2685f87949b98576ba746f6ee3f16e00";
/// `truthfulqa/utils.py`
pub(super) const TRUTHFULQA: &str = "d3c827d1e2cd442a1e4738b527a18effd48cbb2aed478c12a652311b5ea4dbc8";
/// `truthfulqa-multi/utils.py`
pub(super) const TRUTHFULQA_MULTI: &str = "36264ed96d31657505e05eb7af26dae990254826d096e3d5615920b187d8ac1a";
/// `webqs/utils.py`
pub(super) const WEBQS: &str = "b34d53926d40410fc18c9b5455acb0d5f27906cc5a1a3b424eb9099c5fdfcbf8";
/// `super_glue/wsc/preprocess_wsc.py`
pub(super) const WSC: &str = "af369d50024ef69d607630f79c70669b15d0501f3800be9ee46c98bb605d43fa";
/// `xcopa/utils.py`
pub(super) const XCOPA: &str = "191d31bbbfc66be7b66cbc410053e13631201a3700df749f23c653fb7834dd43";
/// `xquad/utils.py`
pub(super) const XQUAD: &str = "b6f164533e6f05a76831a279ef89d392c2459bad77b43c9e2fe14318e4a79ab2";
/// `xwinograd/utils.py`
pub(super) const XWINOGRAD: &str = "ec32f0bfecb45d80220279522ac046ef2ac3f7890444798b56ac29348b27355d";
